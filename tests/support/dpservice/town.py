"""A host with everything on it: two guests of a VNI, one of another, a VIP, NAT, a neighbor, a balancer."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import Final

from services.dpservice.model.changes import Rows
from services.dpservice.model.keys import BalancerKey, FunctionKey, InterfaceKey, NatKey, NeighborKey, RouteKey, VipKey
from services.dpservice.model.rows import (
    Balancer,
    BalancerId,
    BalancerNumber,
    Function,
    FunctionKind,
    Interface,
    InterfaceId,
    IPAddress,
    LocalHop,
    NatSlice,
    Neighbor,
    PortNumber,
    Protocol,
    RemoteHop,
    Vip,
    Vni,
)
from services.dpservice.model.underlay import UnderlayAddress
from tests.support.dpservice.wire import Endpoints
from tests.support.dpservice.world import Link, World

HOST: Final = IPv6Address("fc00:1::1")
GATEWAY: Final = UnderlayAddress(IPv6Address("fc00:9::1"))
OTHER: Final = UnderlayAddress(IPv6Address("fc00:2::d000:0:0:7"))
VNI, FOREIGN = Vni(100), Vni(200)
VIP, SHARED, BALANCED = IPv4Address("203.0.113.1"), IPv4Address("203.0.113.2"), IPv4Address("203.0.113.3")
REMOTE_GUEST, STRANGER = IPv4Address("10.0.1.7"), IPv4Address("198.51.100.9")
STRANGER6: Final = IPv6Address("64:ff9b::c633:6409")
ARRIVING: Final = 63  # outer hop limit of what comes from the fabric
GUEST_MAC: Final = bytes.fromhex("02aa0000000a")


def underlay(number: int) -> UnderlayAddress:
    return UnderlayAddress(IPv6Address(f"fc00:1::d000:0:0:{number:x}"))


def guest(number: int, vni: Vni) -> Interface:
    """Guest n has 10.0.0.n, 2001:db8::n and u(n)."""
    return Interface(
        InterfaceId(f"vm{number}"),
        PortNumber(number),
        f"tap{number}",
        vni,
        IPv4Address(f"10.0.0.{number}"),
        IPv6Address(f"2001:db8::{number}"),
        underlay(number),
    )


def rows() -> Rows:
    """vm1 has the VIP (u 11), vm2 NAT of ports 1000-1003 (u 12) and balancer prefix (u 15), vm3 is in another VNI."""
    made: Rows = {}
    for number, vni in ((1, VNI), (2, VNI), (3, FOREIGN)):
        interface = guest(number, vni)
        made[InterfaceKey(interface.id)] = interface
        made[FunctionKey(interface.underlay)] = Function(FunctionKind.INTERFACE, vni, interface.port)
        for address in (interface.ipv4, interface.ipv6):
            made[RouteKey(vni, ip_network(str(address)))] = LocalHop(interface.port)
    made[RouteKey(VNI, ip_network("10.0.1.0/24"))] = RemoteHop(OTHER, VNI)
    for default in ("0.0.0.0/0", "::/0"):
        made[RouteKey(VNI, ip_network(default))] = RemoteHop(GATEWAY, VNI)
    made[VipKey(InterfaceId("vm1"))] = Vip(VIP, underlay(11))
    made[FunctionKey(underlay(11))] = Function(FunctionKind.VIP, VNI, PortNumber(1))
    made[NatKey(InterfaceId("vm2"))] = NatSlice(SHARED, 1000, 1004, underlay(12))
    made[FunctionKey(underlay(12))] = Function(FunctionKind.NAT, VNI, PortNumber(2))
    made[NeighborKey(VNI, SHARED, 2000, 3000)] = Neighbor(OTHER)
    number = BalancerNumber(0)
    made[FunctionKey(underlay(14))] = Function(FunctionKind.BALANCER, VNI, PortNumber(0), balancer=number)
    made[FunctionKey(underlay(15))] = Function(
        FunctionKind.BALANCER_PREFIX, VNI, PortNumber(2), ip_network(f"{BALANCED}/32")
    )
    made[BalancerKey(VNI, BALANCED)] = Balancer(
        BalancerId("lb"), number, ((80, Protocol.TCP), (53, Protocol.UDP)), (OTHER, underlay(15)), underlay(14)
    )
    return made


def town() -> World:
    uplinks = [Link(2 + n, bytes([2, 0xBB, 0, 0, 0, n]), bytes([2, 0xCC, 0, 0, 0, n])) for n in (0, 1)]
    guests = {PortNumber(n): Link(10 + n, bytes([2, 0xDD, 0, 0, 0, n])) for n in (1, 2, 3)}
    return World(HOST, uplinks, guests, [IPv6Network("fc00::/16")], rows=rows())


def ends(source: IPAddress, source_port: int, destination: IPAddress, destination_port: int) -> Endpoints:
    return Endpoints(source, source_port, destination, destination_port)


def framed(packet: bytes, source: bytes = GUEST_MAC, destination: bytes = bytes.fromhex("02dd00000001")) -> bytes:
    """A guest's frame; nobody looks at its destination."""
    return destination + source + struct.pack("!H", 0x0800 if packet[0] >> 4 == 4 else 0x86DD) + packet


def tunnelled(packet: bytes, destination: IPv6Address, source: IPv6Address = OTHER, hop_limit: int = ARRIVING) -> bytes:
    """A frame from the fabric."""
    inner = 4 if packet[0] >> 4 == 4 else 41
    head = struct.pack("!IHBB", 6 << 28, len(packet), inner, hop_limit) + source.packed + destination.packed
    return bytes.fromhex("02bb0000000002cc000000008 6dd".replace(" ", "")) + head + packet
