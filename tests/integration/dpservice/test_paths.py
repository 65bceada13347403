"""Every path that a packet may take, by test runs of the programs: where it goes, what is changed, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from typing import Final

import pytest

from services.dpservice.model.balancers import NewBalancer
from services.dpservice.model.rows import BalancerId, InterfaceId, PortNumber, Protocol, Vni, numbered
from tests.support.dpservice import calls
from tests.support.dpservice.fates import Delivered, Dropped, Fate, Tunnelled
from tests.support.dpservice.packets import ACK, FIN, RST, SYN, TTL, echo, error, tcp, udp
from tests.support.dpservice.town import GATEWAY, HOST, OTHER, framed, tunnelled
from tests.support.dpservice.trial import Trial, trials
from tests.support.dpservice.wire import Endpoints, IPAddress, Packet, read_packet, verified

IPV4, IPV6 = 4, 41
A, B, C = (PortNumber(number) for number in range(3))
MACS: Final = [bytes([2, 0xAA, 0, 0, 0, number]) for number in range(3)]
A4, B4, C4 = (IPv4Address(f"10.0.0.{number}") for number in (1, 2, 3))
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
FAR4, FAR6, FAR64 = IPv4Address("10.0.1.7"), IPv6Address("2001:db8:1::7"), IPv6Address("64:ff9b::c633:6409")
NET4, NET6 = IPv4Address("198.51.100.9"), IPv6Address("2001:db8:9::9")
VIP, SHARED, BALANCED = (IPv4Address(f"203.0.113.{number}") for number in (1, 3, 5))
ALIAS: Final = IPv4Address("10.0.2.9")
Test = Callable[["Town"], None]


@dataclass
class Town:
    """Guests a (VIP, alias prefix) and b (NAT 1000-1003, balancer prefix) of a VNI, c of another one."""

    trial: Trial
    u: dict[str, IPv6Address]

    def guest(self, port: PortNumber, packet: bytes) -> Fate:
        return self.trial.tried_from_guest(port, framed(packet, MACS[port]))

    def fabric(self, to: str, packet: bytes, uplink: int = 0, source: IPv6Address = OTHER) -> Fate:
        return self.trial.tried_from_uplink(uplink, tunnelled(packet, self.u[to], source))

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
        trial.tried_from_guest(nic.port, framed(udp(Endpoints(nic.ipv4, 1, NET4, 1)), mac))
    return Town(trial, u)


@pytest.fixture(scope="module")
def in_town() -> Iterator[Callable[[Test], None]]:
    with trials() as run:
        yield lambda test: run(lambda trial: test(build(trial)))


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
    fate: Fate, source: IPv6Address, destination: IPv6Address, next_header: int, uplink: int | None = None
) -> Packet:
    """The inner packet of what left by a tunnel."""
    assert isinstance(fate, Tunnelled), fate
    head = fate.frame[14:54]
    assert head[:4] == b"\x60\0\0\0", "neither class nor flow label"
    assert int.from_bytes(head[4:6], "big") == len(fate.frame) - 54
    assert (head[6], head[7]) == (next_header, 64)
    assert (IPv6Address(head[8:24]), IPv6Address(head[24:40])) == (source, destination)
    assert uplink is None or fate.uplink == uplink
    came = read_packet(fate.frame[54:])
    untouched(came)
    return came


def arrived(fate: Fate, port: PortNumber) -> Packet:
    """The packet that a guest got, from its gateway's MAC to its own."""
    assert isinstance(fate, Delivered), fate
    assert (fate.port, fate.frame[:6], fate.frame[6:12]) == (port, MACS[port], bytes([2, 0xDD, 0, 0, 0, port]))
    came = read_packet(fate.frame[14:])
    untouched(came)
    return came


def lost(fate: Fate, reason: str) -> None:
    assert fate == Dropped(frozenset({reason}))


def same_host(town: Town) -> None:
    for source, destination in ((A4, B4), (A6, B6)):
        sent = udp(ends(source, 7, destination, 53))
        for _ in range(2):
            assert arrived(town.guest(A, sent), B).data == sent
        back = udp(ends(destination, 53, source, 7))
        assert arrived(town.guest(B, back), A).data == back


def other_host(town: Town) -> None:
    for source, destination, to in ((ALIAS, FAR4, OTHER), (A4, FAR4, OTHER), (A6, FAR6, OTHER), (A6, NET6, GATEWAY)):
        kind = IPV4 if source.version == 4 else IPV6
        sent = udp(ends(source, 7, destination, 53))
        assert sent_on(town.guest(A, sent), town.u["a"], to, kind, 0).data == sent
        back = udp(ends(destination, 53, source, 7))
        assert arrived(town.fabric("alias" if source == ALIAS else "a", back), A).data == back
    fresh = udp(ends(FAR4, 9, IPv4Address("192.0.2.77"), 9))
    assert arrived(town.fabric("a", fresh), A).data == fresh, "the inner destination is not compared"


def other_vni(town: Town) -> None:
    sent = udp(ends(A4, 7, C4, 53))
    came = sent_on(town.guest(A, sent), town.u["a"], GATEWAY, IPV4)
    assert came.ends == ends(VIP, 7, C4, 53), "the address of another VNI is the internet's"
    town.trial.call(calls.create_route(Vni(100), ip_network("10.0.9.9/32"), OTHER))
    assert sent_on(town.guest(A, udp(ends(A4, 7, IPv4Address("10.0.9.9"), 53))), town.u["a"], OTHER, IPV4)


def vip(town: Town) -> None:
    for sent, back in (
        (udp(ends(A4, 7, NET4, 53)), udp(ends(NET4, 53, VIP, 7))),
        (tcp(ends(A4, 8, NET4, 80), SYN), tcp(ends(NET4, 80, VIP, 8), SYN | ACK)),
        (echo(ends(A4, 9, NET4, 9)), echo(ends(NET4, 9, VIP, 9), answer=True)),
    ):
        came = sent_on(town.guest(A, sent), town.u["a"], GATEWAY, IPV4)
        assert came.ends == replace(read_packet(sent).ends, source=VIP)
        assert arrived(town.fabric("VIP", back), A).ends == replace(read_packet(back).ends, destination=A4)
    came = arrived(town.fabric("VIP", tcp(ends(NET4, 1000, VIP, 22))), A)
    assert came.ends == ends(NET4, 1000, A4, 22), "begun outside"
    answer = town.guest(A, tcp(ends(A4, 22, NET4, 1000), SYN | ACK))
    assert sent_on(answer, town.u["a"], GATEWAY, IPV4).ends == ends(VIP, 22, NET4, 1000)


def nat(town: Town) -> None:
    for sent, back in (
        (udp(ends(B4, 7, NET4, 53)), lambda port: udp(ends(NET4, 53, SHARED, port))),
        (tcp(ends(B4, 7, NET4, 80), SYN), lambda port: tcp(ends(NET4, 80, SHARED, port), SYN | ACK)),
        (echo(ends(B4, 9, NET4, 9)), lambda port: echo(ends(NET4, port, SHARED, port), answer=True)),
    ):
        came = sent_on(town.guest(B, sent), town.u["b"], GATEWAY, IPV4)
        assert came.ends.source == SHARED
        port = came.ends.source_port
        assert 1000 <= port < 1004
        assert arrived(town.fabric("NAT", back(port)), B).ends == read_packet(sent).ends.turned()


def foreign_slice(town: Town) -> None:
    for uplink, port in ((0, 2000), (1, 2999)):
        sent = udp(ends(NET4, 53, SHARED, port))
        for _ in range(2):
            assert sent_on(town.fabric("NAT", sent, uplink, GATEWAY), HOST, OTHER, IPV4, uplink).data == sent
    for port in (1999, 3000, 1000):
        lost(town.fabric("NAT", udp(ends(NET4, 53, SHARED, port)), 0, GATEWAY), "NAT_NO_OWNER")


def pings_of_shared_addresses(town: Town) -> None:
    for to, address in (("NAT", SHARED), ("LB", BALANCED)):
        for uplink in (0, 1):
            fate = town.fabric(to, echo(ends(NET4, 5, address, 5)), uplink, GATEWAY)
            came = sent_on(fate, HOST, GATEWAY, IPV4, uplink)
            assert (came.ends, came.icmp[1]) == (ends(address, 5, NET4, 5), 0)


def balanced(town: Town) -> None:
    target = BalancerId("lb")
    lost(town.fabric("LB", tcp(ends(NET4, 7, BALANCED, 80))), "BALANCER_NO_TARGET")
    town.call("create_target", target, OTHER)
    sent = tcp(ends(NET4, 7, BALANCED, 80))
    for uplink in (0, 1):
        assert sent_on(town.fabric("LB", sent, uplink, GATEWAY), HOST, OTHER, IPV4, uplink).data == sent
    lost(town.fabric("LB", tcp(ends(NET4, 7, BALANCED, 81))), "BALANCER")
    lost(town.fabric("LB", udp(ends(NET4, 7, BALANCED, 80))), "BALANCER")
    town.call("create_target", target, town.u["prefix"])
    assert sent_on(town.fabric("LB", sent), HOST, OTHER, IPV4).data == sent, "a flow keeps its target"
    town.call("delete_target", target, OTHER)
    assert arrived(town.fabric("LB", sent), B).data == sent, "a target of this host"
    assert arrived(town.fabric("prefix", udp(ends(NET4, 8, BALANCED, 53))), B), "from another host's balancer"
    answer = tcp(ends(BALANCED, 80, NET4, 7), SYN | ACK)
    assert sent_on(town.guest(B, answer), town.u["b"], GATEWAY, IPV4).data == answer, "no source NAT"


def guests_and_public_addresses(town: Town) -> None:
    came = arrived(town.guest(B, udp(ends(B4, 7, VIP, 53))), A)
    assert came.ends == ends(B4, 7, A4, 53)
    assert arrived(town.guest(A, udp(ends(A4, 53, B4, 7))), B).ends == ends(VIP, 53, B4, 7)
    came = arrived(town.guest(A, echo(ends(A4, 5, SHARED, 5))), A)
    assert (came.ends, came.icmp[1]) == (ends(SHARED, 5, A4, 5), 0)
    assert sent_on(town.guest(A, udp(ends(A4, 7, SHARED, 2500))), HOST, OTHER, IPV4).ends.source == A4
    lost(town.guest(A, udp(ends(A4, 7, SHARED, 1000))), "NAT_NO_OWNER")
    came = sent_on(town.guest(C, udp(ends(C4, 7, VIP, 53))), town.u["c"], GATEWAY, IPV4)
    assert came.ends == ends(C4, 7, VIP, 53), "of another VNI: the internet's"


def errors(town: Town) -> None:
    router = IPv4Address("192.0.2.1")
    for port, own, to in ((A, A4, "VIP"), (B, B4, "NAT")):
        seen = sent_on(town.guest(port, udp(ends(own, 7, NET4, 53))), town.u["ab"[port]], GATEWAY, IPV4)
        for code in (2, 3, 4):
            came = arrived(town.fabric(to, error(router, seen.ends.source, seen, 3, code)), port)
            assert (came.ends.source, came.ends.destination) == (router, own)
            assert came.quoted.ends == ends(own, 7, NET4, 53)
        for kind, code in ((3, 1), (11, 0), (5, 1), (12, 0), (4, 0)):
            lost(town.fabric(to, error(router, seen.ends.source, seen, kind, code)), "ICMP_ERROR")
    relayed = read_packet(udp(ends(SHARED, 2500, NET4, 53)))
    told = error(router, SHARED, relayed, 3, 4)
    assert sent_on(town.fabric("NAT", told, 1, GATEWAY), HOST, OTHER, IPV4, 1).data == told
    town.call("create_target", BalancerId("lb"), OTHER)
    told = error(router, BALANCED, read_packet(tcp(ends(BALANCED, 80, NET4, 7))), 3, 4)
    assert sent_on(town.fabric("LB", told), HOST, OTHER, IPV4).data == told


def nat64(town: Town) -> None:
    for sent, protocol, back in (
        (udp(ends(B6, 7, FAR64, 53)), 17, lambda port: udp(ends(NET4, 53, SHARED, port))),
        (tcp(ends(B6, 7, FAR64, 80)), 6, lambda port: tcp(ends(NET4, 80, SHARED, port), SYN | ACK)),
        (echo(ends(B6, 9, FAR64, 9)), 1, lambda port: echo(ends(NET4, port, SHARED, port), answer=True)),
    ):
        fate = town.guest(B, sent)
        assert isinstance(fate, Tunnelled)
        assert fate.frame[20] == IPV4
        came = read_packet(fate.frame[54:])
        assert verified(came)
        assert (came.protocol, came.ends.source, came.ends.destination) == (protocol, SHARED, NET4)
        assert came.data[:2] == b"\x45\x12"
        assert (came.data[4:8], came.data[8]) == (bytes(4), TTL), "no id, no DF, the hop limit"
        answered = town.fabric("NAT", back(came.ends.source_port))
        assert isinstance(answered, Delivered)
        got = read_packet(answered.frame[14:])
        assert verified(got)
        assert got.ends == read_packet(sent).ends.turned()
        assert (got.data[7], got.data[:2]) == (TTL, b"\x62\x80")


def nowhere(town: Town) -> None:
    strange = tunnelled(udp(ends(FAR4, 7, A4, 53)), IPv6Address("fc00:1::d000:0:0:ffff"))
    lost(town.trial.tried_from_uplink(0, strange), "UNKNOWN_UNDERLAY")
    town.trial.call(lambda model: model.delete_route(Vni(100), numbered(ip_network("0.0.0.0/0"))))
    lost(town.guest(A, udp(ends(A4, 70, NET4, 53))), "NO_ROUTE")
    unowned = udp(ends(NET4, 7, IPv4Address("203.0.113.99"), 53))
    lost(town.fabric("VIP", unowned), "NO_ROUTE")
    lost(town.fabric("VIP", udp(ends(NET4, 7, FAR4, 53))), "NO_TRANSIT")


def time_to_live(town: Town) -> None:
    for ttl in (0, 1):
        sent = bytearray(udp(ends(A4, 7, B4, 53)))
        sent[8], sent[10:12] = ttl, b"\0\0"
        fate = town.guest(A, bytes(sent))
        assert isinstance(fate, Delivered)
        assert fate.frame[22] == ttl


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(same_host, id="1, 22: to a guest of this host"),
        pytest.param(other_host, id="2, 22: to another host and from it"),
        pytest.param(other_vni, id="3, 19: another VNI's addresses"),
        pytest.param(vip, id="4, 5, 6: by a VIP, out and in"),
        pytest.param(nat, id="7, 8: by NAT"),
        pytest.param(foreign_slice, id="9, 10: somebody else's NAT ports"),
        pytest.param(pings_of_shared_addresses, id="11, 12: pings of NAT and balanced addresses"),
        pytest.param(balanced, id="13 to 17: balanced"),
        pytest.param(guests_and_public_addresses, id="18, 19: guests to public addresses"),
        pytest.param(errors, id="20, 21: ICMP errors"),
        pytest.param(nat64, id="23: NAT64"),
        pytest.param(nowhere, id="24: what goes nowhere"),
        pytest.param(time_to_live, id="25: TTL 0 and 1"),
    ],
)
def test_path(in_town: Callable[[Test], None], path: Test) -> None:
    in_town(path)


NONE, NEW_SYN, NEW_SYNACK, ESTABLISHED, FINWAIT, RST_FIN = range(6)


@pytest.mark.parametrize(
    ("segments", "state"),
    [
        ([(True, SYN)], NEW_SYN),
        ([(True, SYN | 0xC0)], NEW_SYN),
        ([(True, SYN), (True, SYN | ACK)], NEW_SYN),
        ([(True, SYN), (False, SYN | ACK)], NEW_SYNACK),
        ([(True, SYN), (False, SYN | ACK), (False, ACK)], NEW_SYNACK),
        ([(True, SYN), (False, SYN | ACK), (True, ACK)], ESTABLISHED),
        ([(True, SYN), (False, SYN | ACK), (True, ACK), (False, FIN | ACK)], FINWAIT),
        ([(True, SYN), (False, SYN | ACK), (True, ACK), (True, RST)], RST_FIN),
        ([(True, SYN), (False, FIN)], RST_FIN),
        ([(True, SYN), (False, RST), (True, SYN)], NEW_SYN),
        ([(True, ACK)], NONE),
        ([(True, ACK), (False, SYN | ACK), (True, ACK)], NONE),
    ],
)
def test_states_of_tcp(in_town: Callable[[Test], None], segments: list[tuple[bool, int]], state: int) -> None:
    """Both directions know it; only an established connection lives for a day."""

    def follow(town: Town) -> None:
        for out, flags in segments:
            if out:
                assert isinstance(town.guest(A, tcp(ends(A4, 7, FAR4, 80), flags)), Tunnelled)
            else:
                assert isinstance(town.fabric("a", tcp(ends(FAR4, 80, A4, 7), flags)), Delivered)
        entries = [entry for entry in town.trial.engine.flows() if entry.protocol == 6]
        assert [entry.tcp for entry in entries] == [state, state]
        for entry in entries:
            assert (entry.seconds_left > 86000) if state == ESTABLISHED else (25 < entry.seconds_left <= 30)

    in_town(follow)


def _open_everything(town: Town) -> None:
    """A flow of each kind: VIP, NAT, relayed, balanced, between the guests."""
    town.call("create_target", BalancerId("lb"), OTHER)
    for port, packet in (
        (A, udp(ends(A4, 7, NET4, 53))),
        (B, udp(ends(B4, 7, NET4, 53))),
        (A, udp(ends(A4, 7, B4, 9))),
    ):
        town.guest(port, packet)
    town.fabric("NAT", udp(ends(NET4, 53, SHARED, 2000)))
    town.fabric("LB", udp(ends(NET4, 7, BALANCED, 53)))


@pytest.mark.parametrize(
    ("call", "gone"),
    [
        (("delete_interface", InterfaceId("a")), {"VIP", "guests"}),
        (("delete_vip", InterfaceId("a")), {"VIP"}),
        (("delete_nat", InterfaceId("b")), {"NAT"}),
        (("delete_neighbor", Vni(100), SHARED, 2000, 3000), {"relayed"}),
        (("delete_target", BalancerId("lb"), OTHER), {"balanced"}),
        (("delete_balancer", BalancerId("lb")), {"balanced"}),
        (("delete_route", Vni(100), numbered(ip_network("0.0.0.0/0"))), set()),
        (("delete_prefix", InterfaceId("a"), ip_network("10.0.2.0/24")), set()),
        (("delete_balancer_prefix", InterfaceId("b"), ip_network("203.0.113.5/32")), set()),
        (("create_target", BalancerId("lb"), HOST), set()),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_flows_that_go_with_a_call(in_town: Callable[[Test], None], call: tuple[str, object], gone: set[str]) -> None:
    def follow(town: Town) -> None:
        _open_everything(town)
        town.call(*call)
        town.trial.engine.age()  # those of a port that went are dead already, and counted no more from here on
        found = set()
        for entry in town.trial.engine.flows():
            if entry.source_port == 1 or entry.destination_port == 1:
                continue  # from showing MACs
            found.add(
                {1: "VIP", 2: "NAT", 3: "relayed", 4: "balanced"}.get(entry.kind)
                or ("guests" if entry.destination_port in (7, 9) and entry.source in (A4, B4) else "?")
            )
        assert found == {"VIP", "NAT", "relayed", "balanced", "guests"} - gone

    in_town(follow)
