"""Requests into the model's vocabulary. Every function raises Unreadable with the text that clients know.

Addresses travel as printable text in bytes fields, ids as ASCII. Checks come in the order of the original's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final, TypeVar

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.model.balancers import NewBalancer
from services.dpservice.model.changes import RoutePrefix
from services.dpservice.model.errors import Unreadable, WrongIpVersion
from services.dpservice.model.interfaces import NewInterface
from services.dpservice.model.rows import (
    BalancerId,
    Capture,
    CapturedPoint,
    InterfaceId,
    IPAddress,
    IPNetwork,
    Protocol,
    RemoteHop,
    Vni,
)
from services.dpservice.model.underlay import UnderlayAddress, UnderlayAllocator

TEXT_LIMIT: Final = 63  # ids, host names, device names, versions
BOOT_FILENAME_LIMIT: Final = 31
PORT_MAX: Final = 65535
BALANCER_VNI_MAX: Final = 0xFFFFFF
BALANCER_PORTS: Final = 15
CAPTURED_POINTS: Final = 16
UPLINKS: Final = 2
_INTERFACE_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,63}")
_ID: Final = re.compile(rb"[\x21-\x7e]{1,63}")
A = TypeVar("A", IPv4Address, IPv6Address)
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]*")


def identifier(raw: bytes, field: str) -> str:
    """Of balancers and rules: 1-63 printable characters."""
    if not _ID.fullmatch(raw):
        raise Unreadable(f"Invalid {field}")
    return raw.decode("ascii")


def interface_id(raw: bytes) -> InterfaceId:
    """1-63 characters of A-Z a-z 0-9 _ -"""
    if not _INTERFACE_ID.fullmatch(raw):
        raise Unreadable("Invalid interface_id")
    return InterfaceId(raw.decode("ascii"))


def balancer_id(raw: bytes) -> BalancerId:
    """As every call with a load balancer has it."""
    return BalancerId(identifier(raw, "loadbalancer_id"))


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
    name = interface_id(request.interface_id)
    ipv4 = _primary(request.ipv4_config.primary_address, IPv4Address, "ipv4_config.primary_address")
    ipv6 = _primary(request.ipv6_config.primary_address, IPv6Address, "ipv6_config.primary_address")
    if ipv4 is None and ipv6 is None:
        raise Unreadable("Invalid ipv4_config.primary_address and ipv6_config.primary_address combination")
    _check_pxe(request.pxe_config, IPv4Address if ipv6 is None else IPv6Address)
    if not request.device_name:
        raise Unreadable("Invalid device_name")
    return NewInterface(
        id=name,
        device=_text(request.device_name, "device_name"),
        vni=Vni(request.vni),
        ipv4=ipv4,
        ipv6=ipv6,
        hostname=_text(request.hostname, "hostname"),
        preferred=preferred(request.preferred_underlay_route, allocator),
        next_server=request.pxe_config.next_server,
        boot_filename=request.pxe_config.boot_filename,
        total_rate=request.metering_parameters.total_rate,
        public_rate=request.metering_parameters.public_rate,
    )


def prefix(message: pb.Prefix) -> IPNetwork:
    """A prefix of an interface; host bits are masked."""
    host = address(message.ip, "prefix.ip")
    if message.length > host.max_prefixlen:
        raise Unreadable("Invalid prefix.length")
    return network(host, message.length)


def network(host: IPAddress, length: int) -> IPNetwork:
    """The prefix of that length that an address is in."""
    family = IPv4Network if isinstance(host, IPv4Address) else IPv6Network
    kept = host.max_prefixlen - length
    return family((int(host) >> kept << kept, length))


def route(message: pb.Route) -> tuple[RoutePrefix, RemoteHop]:
    """The prefix and the next hop. Raises WrongIpVersion 204: the underlay is IPv6."""
    hop = message.nexthop_address
    return route_prefix(message), _hop(hop.ipver, hop.address, message.nexthop_vni)


@lru_cache(65536)
def _hop(ipver: int, raw: bytes, vni: int) -> RemoteHop:
    """Next hops are few and routes many: they share them."""
    hop = _versioned(ipver, raw, "route.nexthop_address")
    if not isinstance(hop, IPv6Address):
        raise WrongIpVersion(f"next hop {hop} is not IPv6")
    return RemoteHop(UnderlayAddress(hop), Vni(vni))


def route_prefix(message: pb.Route) -> RoutePrefix:
    """The prefix of a route, all that matters of one to delete; its length is looked at first."""
    target = message.prefix
    ip, length = target.ip, target.length
    version, bits = (6, 128) if ip.ipver == pb.IPV6 else (4, 32)
    if length > bits:
        raise Unreadable("Invalid route.prefix.length")
    packed = _packed(ip.address, "route.prefix.ip")
    if len(packed) * 8 != bits:
        raise Unreadable("Invalid route.prefix.ip")
    host_bits = bits - length
    return RoutePrefix(version, int.from_bytes(packed, "big") >> host_bits << host_bits + 8 | length)


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


def port_range(min_port: int, max_port: int) -> tuple[int, int]:
    """A NAT slice; its last port is not included."""
    for value, field in ((min_port, "min_port"), (max_port, "max_port")):
        if value > PORT_MAX:
            raise Unreadable(f"Invalid {field}")
    if min_port >= max_port:
        raise Unreadable("Invalid port range")
    return min_port, max_port


def neighbor(request: pb.CreateNeighborNatRequest) -> tuple[Vni, IPAddress, int, int, UnderlayAddress]:
    """The arguments of the model's `create_neighbor`."""
    public = address(request.nat_ip, "nat_ip")
    low, high = port_range(request.min_port, request.max_port)
    owner = _address(request.underlay_route, "underlay_route")
    if not isinstance(owner, IPv6Address):
        raise Unreadable("Invalid underlay_route")
    return Vni(request.vni), public, low, high, UnderlayAddress(owner)


def new_balancer(request: pb.CreateLoadBalancerRequest, allocator: UnderlayAllocator) -> NewBalancer:
    """A CreateLoadBalancer request. A port of 0 ends the list of ports, as in the original's table."""
    name = balancer_id(request.loadbalancer_id)
    if request.vni > BALANCER_VNI_MAX:
        raise Unreadable("VNI exceeds 24-bit range")
    balanced = address(request.loadbalanced_ip, "loadbalanced_ip")
    if len(request.loadbalanced_ports) > BALANCER_PORTS:
        raise Unreadable("Too many loadbalanced_ports")
    ports: list[tuple[int, Protocol]] = []
    for each in request.loadbalanced_ports:
        if each.port > PORT_MAX:
            raise Unreadable("Invalid loadbalanced_ports.port")
        if each.protocol not in (pb.TCP, pb.UDP):
            raise Unreadable("Invalid loadbalanced_ports.protocol")
        port = each.port, Protocol(each.protocol)
        if port in ports:
            raise Unreadable("Duplicate loadbalanced_ports entry")
        ports.append(port)
    end = next((index for index, (port, _) in enumerate(ports) if not port), len(ports))
    chosen = preferred(request.preferred_underlay_route, allocator)
    return NewBalancer(name, Vni(request.vni), balanced, tuple(ports[:end]), chosen)


def capture(message: pb.CaptureConfig) -> Capture:
    """A CaptureStart request's configuration; the sink is IPv6."""
    sink = address(message.sink_node_ip, "sink_node_ip")
    if not isinstance(sink, IPv6Address):
        raise Unreadable("Invalid sink_node_ip")
    for field in ("udp_src_port", "udp_dst_port"):
        if getattr(message, field) > PORT_MAX:
            raise Unreadable(f"Invalid {field}")
    if len(message.interfaces) > CAPTURED_POINTS:
        raise Unreadable("Too many interfaces to be captured")
    points = tuple(dict.fromkeys(_captured(each) for each in message.interfaces))
    return Capture(sink, message.udp_src_port, message.udp_dst_port, points)


def _captured(message: pb.CapturedInterface) -> CapturedPoint:
    if message.interface_type == pb.SINGLE_VF:
        return interface_id(message.vf_name)
    if message.interface_type != pb.SINGLE_PF:
        raise Unreadable("Invalid interfaces.interface_type")
    if message.pf_index >= UPLINKS:
        raise Unreadable("Invalid pf_index")
    return int(message.pf_index)


def address(message: pb.IpAddress, field: str) -> IPAddress:
    """An address whose version is said beside it."""
    return _versioned(message.ipver, message.address, field)


def _versioned(ipver: int, raw: bytes, field: str) -> IPAddress:
    found = _address(raw, field)
    if found.version != (6 if ipver == pb.IPV6 else 4):
        raise Unreadable(f"Invalid {field}")
    return found


def _address(raw: bytes, field: str) -> IPAddress:
    packed = _packed(raw, field)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _packed(raw: bytes, field: str) -> bytes:
    try:
        text = raw.decode("ascii")
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (ValueError, OSError):
        raise Unreadable(f"Invalid {field}") from None


def _primary(raw: bytes, family: type[A], field: str) -> A | None:
    if not raw:
        return None
    found = _address(raw, field)
    if not isinstance(found, family):
        raise Unreadable(f"Invalid {field}")
    return found if int(found) else None


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
