"""Values of flags and of fields in files, checked. Every function raises BadValue."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import Any, Final, TypeVar

from protos.dpdkironcore.v1 import dpdk_pb2 as pb

T = TypeVar("T")
_WORDS: Final = {
    "direction": {"0": "Ingress", "ingress": "Ingress", "1": "Egress", "egress": "Egress"},
    "action": {"0": "Drop", "drop": "Drop", "deny": "Drop", "1": "Accept", "accept": "Accept", "allow": "Accept"},
}
PROTOCOLS: Final = {"icmp": "icmp", "1": "icmp", "tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp"}
_VNI_TYPES: Final = {"ipv4": 0, "0": 0, "ipv6": 1, "1": 1, "both": 2, "2": 2}
_NAT_TYPES: Final = {"any": "any", "0": "any", "": "any", "local": "local", "1": "local"} | dict.fromkeys(
    ("neigh", "neighbor", "2"), "neighbor"
)


class BadValue(Exception):
    """The text says what is wrong with a value."""


def text(value: Any) -> str:
    """Any text."""
    if not isinstance(value, str | int):
        raise BadValue(f"{value!r} is not a text")
    return str(value)


def number(value: Any) -> int:
    """A uint32."""
    return _integer(value, 0, 2**32 - 1)


def wide_number(value: Any) -> int:
    """A uint64."""
    return _integer(value, 0, 2**64 - 1)


def signed(value: Any) -> int:
    """An int32."""
    return _integer(value, -(2**31), 2**31 - 1)


def address(value: Any) -> str:
    """An IPv4 or IPv6 address in its canonical form."""
    try:
        return str(ip_address(str(value).strip()))
    except ValueError as error:
        raise BadValue(str(error)) from error


def prefix(value: Any) -> str:
    """ADDRESS/LENGTH, host bits kept: whether they matter is the server's to say."""
    if "/" not in str(value):
        raise BadValue(f"{value!r} is not ADDRESS/LENGTH")
    try:
        return str(ip_interface(str(value).strip()))
    except ValueError as error:
        raise BadValue(str(error)) from error


def balanced_ports(value: Any) -> list[dict[str, int]]:
    """`TCP/443,UDP/53`, or the list that an object has."""
    return [_balanced_port(item) for item in (value.split(",") if isinstance(value, str) else value)]


def direction(value: Any) -> str:
    """Ingress or Egress."""
    return _word("direction", value)


def action(value: Any) -> str:
    """Accept or Drop."""
    return _word("action", value)


def protocol(value: Any) -> str:
    """A protocol that firewall rules can name."""
    return _one_of(PROTOCOLS, value, "icmp, tcp or udp")


def vni_type(value: Any) -> int:
    """As the API numbers them."""
    return _one_of(_VNI_TYPES, value, "ipv4, ipv6 or both")


def nat_type(value: Any) -> str:
    """Whose slices."""
    return _one_of(_NAT_TYPES, value, "any, local or neighbor")


def protocol_filter(value: Any) -> dict[str, Any]:
    """As an object has it: {"Filter": {"Tcp": {...}}}."""
    inner = value.get("Filter") if isinstance(value, dict) else None
    if inner is None:
        return {"Filter": None}
    names = {"Tcp": pb.TcpFilter.DESCRIPTOR, "Udp": pb.UdpFilter.DESCRIPTOR, "Icmp": pb.IcmpFilter.DESCRIPTOR}
    for name, fields in inner.items():
        if name not in names or not set(fields) <= set(names[name].fields_by_name):
            raise BadValue(f"{value!r} is not a filter of Tcp, Udp or Icmp")
    return {"Filter": {name: {key: signed(each) for key, each in fields.items()} for name, fields in inner.items()}}


def items(value: Any) -> list[str]:
    """`a,b`."""
    return [item for item in str(value).split(",") if item]


def _integer(value: Any, low: int, high: int) -> int:
    try:
        found = int(str(value), 0)
    except ValueError as error:
        raise BadValue(f"{value!r} is not a number") from error
    if not low <= found <= high:
        raise BadValue(f"{found} is not within {low}-{high}")
    return found


def _balanced_port(item: Any) -> dict[str, int]:
    if isinstance(item, dict):
        return {"protocol": number(item.get("protocol")), "port": number(item.get("port"))}
    name, slash, port = str(item).partition("/")
    known = {each.name.lower(): each.number for each in pb.Protocol.DESCRIPTOR.values if each.number}
    if not slash or name.lower() not in known:
        raise BadValue(f"{item!r} is not PROTOCOL/PORT, as TCP/443")
    return {"protocol": known[name.lower()], "port": number(port)}


def _word(what: str, value: Any) -> str:
    words = _WORDS[what]
    return _one_of(words, value, " or ".join(sorted(set(words.values()))))


def _one_of(words: dict[str, T], value: Any, known: str) -> T:
    if str(value).lower() not in words:
        raise BadValue(f"{value!r} is not {known}")
    return words[str(value).lower()]
