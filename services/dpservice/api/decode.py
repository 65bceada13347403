"""Requests into the model's vocabulary. Every function raises Unreadable with the text that clients know.

Addresses travel as printable text in bytes fields, ids as ASCII.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, TypeVar

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.model.errors import Unreadable, WrongIpVersion
from services.dpservice.model.rows import InterfaceId, IPAddress, IPNetwork, RemoteHop, Vni
from services.dpservice.model.state import NewInterface
from services.dpservice.model.underlay import UnderlayAddress, UnderlayAllocator

TEXT_LIMIT: Final = 63  # ids, host names, device names, versions
BOOT_FILENAME_LIMIT: Final = 31
_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,63}")
A = TypeVar("A", IPv4Address, IPv6Address)
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]*")


def interface_id(raw: bytes) -> InterfaceId:
    """1-63 characters of A-Z a-z 0-9 _ -"""
    if not _ID.fullmatch(raw):
        raise Unreadable("Invalid interface_id")
    return InterfaceId(raw.decode("ascii"))


def preferred(raw: bytes, allocator: UnderlayAllocator) -> UnderlayAddress | None:
    """None when the server shall choose."""
    address = _address(raw, "preferred_underlay_route") if raw else None
    if address is None or not int(address):
        return None
    if not isinstance(address, IPv6Address):
        raise Unreadable("Invalid preferred_underlay_route")
    return allocator.accept(address)


def new_interface(request: pb.CreateInterfaceRequest, allocator: UnderlayAllocator) -> NewInterface:
    """A CreateInterface request; the interface type is ignored as the original ignores it."""
    identifier = interface_id(request.interface_id)
    ipv4 = _primary(request.ipv4_config.primary_address, IPv4Address, "ipv4_config.primary_address")
    ipv6 = _primary(request.ipv6_config.primary_address, IPv6Address, "ipv6_config.primary_address")
    if ipv4 is None and ipv6 is None:
        raise Unreadable("Invalid ipv4_config.primary_address and ipv6_config.primary_address combination")
    _check_pxe(request.pxe_config, IPv4Address if ipv6 is None else IPv6Address)
    if not request.device_name:
        raise Unreadable("Invalid device_name")
    return NewInterface(
        id=identifier,
        device=_text(request.device_name, "device_name"),
        vni=Vni(request.vni),
        ipv4=ipv4,
        ipv6=ipv6,
        hostname=_text(request.hostname, "hostname"),
        preferred=preferred(request.preferred_underlay_route, allocator),
        next_server=request.pxe_config.next_server,
        boot_filename=request.pxe_config.boot_filename,
    )


def prefix(message: pb.Prefix, field: str) -> IPNetwork:
    """A prefix; host bits are masked."""
    limit = 128 if message.ip.ipver == pb.IPV6 else 32
    if message.length > limit:
        raise Unreadable(f"Invalid {field}.length")
    return ip_network((_versioned(message.ip, f"{field}.ip"), message.length), strict=False)


def route(message: pb.Route) -> tuple[IPNetwork, RemoteHop]:
    """The prefix and the next hop. Raises WrongIpVersion 204: the underlay is IPv6."""
    target = prefix(message.prefix, "route.prefix")
    hop = _versioned(message.nexthop_address, "route.nexthop_address")
    if not isinstance(hop, IPv6Address):
        raise WrongIpVersion(f"next hop {hop} is not IPv6")
    return target, RemoteHop(UnderlayAddress(hop), Vni(message.nexthop_vni))


def route_prefix(message: pb.Route) -> IPNetwork:
    """The prefix of a route to delete; its next hop doesn't matter."""
    return prefix(message.prefix, "route.prefix")


def vni_type(value: int) -> int:
    """A known VniType."""
    if value not in pb.VniType.values():
        raise Unreadable("Invalid type")
    return value


def client_version(request: pb.GetVersionRequest) -> None:
    """All three are needed; nobody looks at what they say."""
    for field in ("client_protocol", "client_name", "client_version"):
        if not 0 < len(getattr(request, field)) <= TEXT_LIMIT:
            raise Unreadable(f"Invalid {field}")


def _address(raw: bytes, field: str) -> IPAddress:
    try:
        text = raw.decode("ascii")
        return IPv6Address(text) if ":" in text and "%" not in text else IPv4Address(text)
    except ValueError:
        raise Unreadable(f"Invalid {field}") from None


def _versioned(message: pb.IpAddress, field: str) -> IPAddress:
    address = _address(message.address, field)
    if address.version != (6 if message.ipver == pb.IPV6 else 4):
        raise Unreadable(f"Invalid {field}")
    return address


def _primary(raw: bytes, family: type[A], field: str) -> A | None:
    if not raw:
        return None
    address = _address(raw, field)
    if not isinstance(address, family):
        raise Unreadable(f"Invalid {field}")
    return address if int(address) else None


def _check_pxe(config: pb.PxeConfig, family: type[IPv4Address] | type[IPv6Address]) -> None:
    if config.next_server:
        try:
            family(config.next_server)
        except ValueError:
            raise Unreadable("Invalid pxe_config.next_server") from None
    if len(config.boot_filename) > BOOT_FILENAME_LIMIT or not _PRINTABLE.fullmatch(config.boot_filename):
        raise Unreadable("Invalid pxe_config.boot_filename")


def _text(value: str, field: str) -> str:
    if len(value) > TEXT_LIMIT or not _PRINTABLE.fullmatch(value):
        raise Unreadable(f"Invalid {field}")
    return value
