"""Objects as JSON, YAML, tables and names. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

import yaml

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.client.kinds import Kind, Object, get
from services.dpservice.client.rules import filter_text
from services.dpservice.client.values import BadValue

FORMATS: Final = ("json", "yaml", "table", "name")
Columns = tuple[tuple[str, Callable[[Object], Any]], ...]


def _at(path: str, missing: Any = "") -> Callable[[Object], Any]:
    parts = tuple(path.split("."))

    def value(shown: Object) -> Any:
        found = get(shown, parts)
        return missing if found is None else found

    return value


def _ports(shown: Object) -> str:
    ports = shown["spec"].get("loadbalanced_ports", ())
    return ",".join(f"{pb.Protocol.Name(port['protocol'])}/{port['port']}" for port in ports)


def _slice(shown: Object) -> str:
    spec = get(shown, ("spec", "nat", "spec"))
    return f"{spec['nat_ip']} <{spec['min_port']}, {spec['max_port']}>" if spec else ""


def _captured(which: str) -> Callable[[Object], str]:
    return lambda shown: ",".join(
        each["interface_info"] for each in shown["spec"].get("interfaces", ()) if each["interface_type"] == which
    )


_UNDERLAY = ("UnderlayRoute", _at("spec.underlay_route"))
_OWNER = ("InterfaceID", _at("metadata.interface_id"))
_SLICE = (("MinPort", _at("spec.min_port")), ("MaxPort", _at("spec.max_port")), _UNDERLAY)
_PREFIXES: Columns = (
    ("VNI", _at("metadata.vni", 0)),
    ("Prefix", _at("spec.prefix")),
    _UNDERLAY,
    _OWNER,
)
_INTERFACES: Columns = (
    ("ID", _at("metadata.id")),
    ("VNI", _at("spec.vni")),
    ("Device", _at("spec.device")),
    ("IPv4", _at("spec.primary_ipv4")),
    ("IPv6", _at("spec.primary_ipv6")),
    _UNDERLAY,
    ("TotalTx", _at("spec.metering.total_rate", 0)),
    ("PublicTx", _at("spec.metering.public_rate", 0)),
    ("Hostname", _at("spec.hostname")),
)
_CAPTURED: Columns = (("PF Interfaces", _captured("pf")), ("VF Interfaces", _captured("vf")))
NAT_LIST: Final = "NatList"
COLUMNS: Final[Mapping[str, Columns]] = {
    "Interface": _INTERFACES,
    "Route": (
        ("Prefix", _at("spec.prefix")),
        ("VNI", _at("metadata.vni")),
        ("NextHopVNI", _at("spec.next_hop.vni")),
        ("NextHopIP", _at("spec.next_hop.address")),
    ),
    "Prefix": _PREFIXES,
    "LoadBalancerPrefix": _PREFIXES,
    "VirtualIP": (_OWNER, ("VirtualIP", _at("spec.vip_ip")), _UNDERLAY),
    "Nat": (_OWNER, ("NatIP", _at("spec.nat_ip")), *_SLICE),
    NAT_LIST: (
        ("VNI", _at("spec.vni")),
        ("IP", _at("spec.nat_ip")),
        *_SLICE,
        ("NatIP", _at("spec.actual_nat_ip")),
        ("NatType", lambda shown: "Neighbor" if shown["spec"].get("nat_ip") is None else "Local"),
    ),
    "NeighborNat": (("VNI", _at("spec.vni")), ("NatIP", _at("metadata.nat_ip")), *_SLICE),
    "LoadBalancer": (
        ("ID", _at("metadata.id")),
        ("VNI", _at("spec.vni")),
        ("LbVipIP", _at("spec.loadbalanced_ip")),
        ("Lbports", _ports),
        _UNDERLAY,
    ),
    "LoadBalancerTarget": (
        ("IpVersion", lambda shown: f"IPV{ip_address(shown['spec']['target_ip']).version}"),
        ("Address", _at("spec.target_ip")),
        ("LoadBalancerID", _at("metadata.loadbalancer_id")),
    ),
    "FirewallRule": (
        _OWNER,
        ("RuleID", _at("spec.id")),
        ("Direction", _at("spec.direction")),
        ("Src", _at("spec.source_prefix")),
        ("Dst", _at("spec.destination_prefix")),
        ("Action", _at("spec.action")),
        ("Protocol", lambda shown: filter_text(shown["spec"])),
        ("Priority", _at("spec.priority")),
    ),
    "Initialized": (("UUID", _at("spec.uuid")),),
    "Vni": (("VNI", _at("metadata.vni")), ("VniType", _at("metadata.vni_type")), ("inUse", _at("spec.in_use"))),
    "Version": (
        ("ServiceProto", _at("spec.service_protocol")),
        ("ServiceVersion", _at("spec.service_version")),
        ("ClientName", _at("metadata.client_name")),
        ("ClientProto", _at("metadata.client_protocol")),
        ("ClientVersion", _at("metadata.client_version")),
    ),
    "CaptureStart": (
        ("SinkNodeIP", _at("metadata.capture_config.sink_node_ipv6")),
        ("UdpSrcPort", _at("metadata.capture_config.udp_src_port")),
        ("UdpDstPort", _at("metadata.capture_config.udp_dst_port")),
        *_CAPTURED,
    ),
    "CaptureStop": (("Stopped Interface", _at("spec.iface_cnt")),),
    "CaptureStatus": (
        ("Operation Status", lambda shown: "ACTIVE" if shown["spec"]["operation_status"] else "NOT_ACTIVE"),
        ("SinkNodeIP", _at("spec.capture_config.sink_node_ipv6")),
        ("UdpSrcPort", _at("spec.capture_config.udp_src_port")),
        ("UdpDstPort", _at("spec.capture_config.udp_dst_port")),
        *_CAPTURED,
    ),
}
_WIDE: Final[Columns] = (("Nat", _slice), ("VirtualIP", _at("spec.vip.spec.vip_ip")))
_SORTED_BY: Final = {
    "Prefix": "Prefix",
    "LoadBalancerPrefix": "Prefix",
    "FirewallRule": "RuleID",
    "LoadBalancerTarget": "Address",
}
_COLUMN_ALIASES: Final = {"source": "src", "destination": "dst"}


@dataclass(frozen=True)
class Style:
    """How to show. `format` is one of FORMATS."""

    format: str
    pretty: bool = False
    wide: bool = False


def render(shown: Object, style: Style, title: Callable[[Object], str], operation: str = "") -> str:
    """The text of an object or a list. `operation` says in names what was done."""
    if style.format == "json":
        return json.dumps(shown, indent=2 if style.pretty else None, separators=None if style.pretty else (",", ":"))
    if style.format == "yaml":
        return yaml.safe_dump(shown, sort_keys=True, default_flow_style=False).rstrip("\n")
    items = shown.get("items", [shown])
    if style.format == "name":
        return "\n".join(f"{item['kind'].lower()}/{title(item)} {operation}".rstrip() for item in items)
    columns = _columns(shown, wide=style.wide)
    return table([name for name, _ in columns], [[value(item) for _, value in columns] for item in items])


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns with two blanks between them, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[at], int) and not isinstance(row[at], bool) for row in rows)
        for at in range(len(headers))
    ]
    lines = [headers, *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def ordered(items: list[Object], kind: Kind, by: str, *, listing: str = "") -> list[Object]:
    """Sorted by a column, in natural order. Raises BadValue for a column that isn't there."""
    columns = {name.lower(): value for name, value in COLUMNS[listing or kind.name]}
    aliases = _COLUMN_ALIASES | {"ip": "lbvipip"} if kind.name == "LoadBalancer" else _COLUMN_ALIASES
    name = (by or _SORTED_BY.get(kind.name, next(iter(columns)))).lower()
    value = columns.get(aliases.get(name, name))
    if value is None:
        raise BadValue(f"--sort-by: {by!r} is not one of {', '.join(columns)}")
    return sorted(items, key=lambda item: natural(value(item)))


def natural(value: Any) -> tuple[Any, ...]:
    """A sort key: numbers before addresses before texts, each in its own order."""
    if isinstance(value, int):
        return 0, value
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        return 2, str(value)
    return 1, network.version, int(network.network_address), network.prefixlen


def _columns(shown: Object, *, wide: bool) -> Columns:
    kind = shown["kind"]
    if kind == NAT_LIST and any(item["metadata"] for item in shown["items"]):
        return COLUMNS["Nat"]
    columns = COLUMNS.get(kind) or COLUMNS[kind.removesuffix("List")]
    if kind.startswith("Interface"):
        items = shown.get("items", [shown])
        if any(get(item, ("spec", "virtual_function")) for item in items):
            columns = (*columns, ("VirtualFunction", _at("spec.virtual_function.name")))
        if wide:
            columns = (*columns, *_WIDE)
    return columns


def _cell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
