"""A host with everything on it, its packets by test runs, and what is said of where they went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from typing import Final

from services.dpservice.model.balancers import NewBalancer
from services.dpservice.model.rows import BalancerId, InterfaceId, PortNumber, Protocol, Vni
from tests.support.dpservice import calls
from tests.support.dpservice.fates import Delivered, Dropped, Fate, Tunnelled
from tests.support.dpservice.packets import TTL, udp
from tests.support.dpservice.town import ARRIVING, GATEWAY, HOST, OTHER, framed, tunnelled
from tests.support.dpservice.trial import Trial
from tests.support.dpservice.wire import Endpoints, IPAddress, Packet, read_packet, verified

IPV4, IPV6 = 4, 41
A, B, C = (PortNumber(number) for number in range(3))
MACS: Final = [bytes([2, 0xAA, 0, 0, 0, number]) for number in range(3)]
A4, B4, C4 = (IPv4Address(f"10.0.0.{number}") for number in (1, 2, 3))
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
FAR4, FAR6, FAR64 = IPv4Address("10.0.1.7"), IPv6Address("2001:db8:1::7"), IPv6Address("64:ff9b::c633:6409")
NET4, NET6 = IPv4Address("198.51.100.9"), IPv6Address("2001:db8:9::9")
VIP, SHARED, BALANCED = (IPv4Address(f"203.0.113.{number}") for number in (1, 3, 5))
EXTRA: Final = IPv4Address("203.0.113.9")
ALIAS: Final = IPv4Address("10.0.2.9")
Test = Callable[["Town"], None]


@dataclass
class Town:
    """Guests a (VIP, alias prefix) and b (NAT 1000-1003, balancer prefix) of a VNI, c of another one."""

    trial: Trial
    u: dict[str, IPv6Address]

    def guest(self, port: PortNumber, packet: bytes) -> Fate:
        return self.trial.tried_from_guest(port, framed(packet, MACS[port]))

    def fabric(
        self, to: str, packet: bytes, uplink: int = 0, source: IPv6Address = OTHER, *, hop_limit: int = ARRIVING
    ) -> Fate:
        return self.trial.tried_from_uplink(uplink, tunnelled(packet, self.u[to], source, hop_limit))

    def call(self, name: str, *arguments: object) -> None:
        self.trial.call(lambda model: getattr(model, name)(*arguments))


def build(trial: Trial) -> Town:
    trial.reset()
    u = {}
    for name, device, vni, last in (("a", 2, 100, 1), ("b", 3, 100, 2), ("c", 4, 200, 3)):
        trial.call(calls.create_interface(InterfaceId(name), f"net_tap{device}", Vni(vni), last))
        u[name] = trial.model.interface(InterfaceId(name)).underlay
    for vni in (Vni(100), Vni(200)):
        for prefix in ("0.0.0.0/0", "::/0"):
            trial.call(calls.create_route(vni, ip_network(prefix), GATEWAY))
    for prefix in ("10.0.1.0/24", "2001:db8:1::/64"):
        trial.call(calls.create_route(Vni(100), ip_network(prefix), OTHER))
    a, b, lb = InterfaceId("a"), InterfaceId("b"), BalancerId("lb")
    u["VIP"] = trial.call(lambda model: model.create_vip(a, VIP, None)).underlay
    u["NAT"] = trial.call(lambda model: model.create_nat(b, SHARED, 1000, 1004, None)).underlay
    u["alias"] = trial.call(lambda model: model.create_prefix(a, IPv4Network("10.0.2.0/24"), None))
    u["prefix"] = trial.call(lambda model: model.create_balancer_prefix(b, IPv4Network(BALANCED), None))
    trial.call(lambda model: model.create_neighbor(Vni(100), SHARED, 2000, 3000, OTHER))
    wanted = NewBalancer(lb, Vni(100), BALANCED, ((80, Protocol.TCP), (53, Protocol.UDP)))
    u["LB"] = trial.call(lambda model: model.create_balancer(wanted)).underlay
    for name, mac in zip("abc", MACS, strict=True):  # each guest shows its MAC
        nic = trial.model.interface(InterfaceId(name))
        assert nic.ipv4
        trial.from_guest(nic.port, framed(udp(Endpoints(nic.ipv4, 1, NET4, 1)), mac))
    return Town(trial, u)


def ends(source: IPAddress, source_port: int, destination: IPAddress, port: int) -> Endpoints:
    return Endpoints(source, source_port, destination, port)


def untouched(came: Packet) -> None:
    """Checksums are right; TTL (or hop limit) and traffic class are the sender's."""
    assert verified(came), came
    if came.version == 4:
        assert (came.data[8], came.data[1]) == (TTL, 0x28)
    else:
        assert (came.data[7], came.data[:2]) == (TTL, b"\x61\x20")


def sent_on(
    fate: Fate,
    source: IPv6Address,
    destination: IPv6Address,
    next_header: int,
    uplink: int | None = None,
    *,
    hop_limit: int = 64,
) -> Packet:
    """The inner packet of what left by a tunnel."""
    assert isinstance(fate, Tunnelled), fate
    head = fate.frame[14:54]
    assert head[:4] == b"\x60\0\0\0", "neither class nor flow label"
    assert int.from_bytes(head[4:6], "big") == len(fate.frame) - 54
    assert (head[6], head[7]) == (next_header, hop_limit)
    assert (IPv6Address(head[8:24]), IPv6Address(head[24:40])) == (source, destination)
    assert uplink is None or fate.uplink == uplink
    came = read_packet(fate.frame[54:])
    untouched(came)
    return came


def relayed(fate: Fate, destination: IPv6Address, next_header: int, uplink: int | None = None) -> Packet:
    """The inner packet of what came by a tunnel and left by the next one."""
    return sent_on(fate, HOST, destination, next_header, uplink, hop_limit=ARRIVING - 1)


def arrived(fate: Fate, port: PortNumber) -> Packet:
    """The packet that a guest got, from its gateway's MAC to its own."""
    assert isinstance(fate, Delivered), fate
    assert (fate.port, fate.frame[:6], fate.frame[6:12]) == (port, MACS[port], bytes([2, 0xDD, 0, 0, 0, port]))
    came = read_packet(fate.frame[14:])
    untouched(came)
    return came


def lost(fate: Fate, reason: str) -> None:
    assert fate == Dropped(frozenset({reason}))
