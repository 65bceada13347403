"""Paths on which two of a host's services meet, and the limits of each, by test runs of the programs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest

from services.dpservice.model.balancers import NewBalancer
from services.dpservice.model.rows import BalancerId, InterfaceId, Protocol, Vni
from tests.integration.dpservice.path_town import (
    A4,
    A6,
    ALIAS,
    B4,
    B6,
    BALANCED,
    EXTRA,
    FAR4,
    FAR64,
    IPV4,
    IPV6,
    NET4,
    NET6,
    SHARED,
    VIP,
    A,
    B,
    Test,
    Town,
    arrived,
    ends,
    lost,
    relayed,
    sent_on,
)
from tests.support.dpservice import calls
from tests.support.dpservice.fates import Tunnelled
from tests.support.dpservice.packets import ACK, SYN, echo, ip, tcp, transport, udp
from tests.support.dpservice.town import GATEWAY, HOST, OTHER, tunnelled
from tests.support.dpservice.wire import ICMPV6

BALANCED6 = IPv6Address("2001:db8:5::1")
LB6 = BalancerId("lb6")
TARGETS = tuple(IPv6Address(f"fc00:2::d000:0:0:{number:x}") for number in range(1, 65))


def nat_on_a_vips_address(town: Town) -> None:
    """The owner of the VIP gets what nobody's flow is; the other one its answers."""
    b = InterfaceId("b")
    town.call("delete_nat", b)
    to = town.trial.call(lambda model: model.create_nat(b, VIP, 1000, 1004, None)).underlay
    town.u["both"] = to
    out = sent_on(town.guest(B, udp(ends(B4, 7, NET4, 53))), town.u["b"], GATEWAY, IPV4).ends
    assert (out.source, out.source_port // 10) == (VIP, 100)
    assert arrived(town.fabric("both", udp(out.turned())), B).ends == ends(NET4, 53, B4, 7)
    for where in ("VIP", "both"):
        came = arrived(town.fabric(where, udp(ends(NET4, 54, VIP, 1001))), A)
        assert came.ends == ends(NET4, 54, A4, 1001)
        assert arrived(town.fabric(where, echo(ends(NET4, 5, VIP, 5))), A).icmp[1] == 8, "the owner answers pings"
    town.call("delete_nat", b)
    assert arrived(town.fabric("VIP", udp(ends(NET4, 55, VIP, 22))), A).ends == ends(NET4, 55, A4, 22)


def balanced_ipv6(town: Town) -> None:
    wanted = NewBalancer(LB6, Vni(100), BALANCED6, ((80, Protocol.TCP), (53, Protocol.UDP)))
    town.u["LB6"] = town.trial.call(lambda model: model.create_balancer(wanted)).underlay
    prefix = IPv6Network(BALANCED6)
    town.u["prefix6"] = town.trial.call(lambda model: model.create_balancer_prefix(InterfaceId("b"), prefix, None))
    for uplink in (0, 1):
        ping = town.fabric("LB6", echo(ends(NET6, 5, BALANCED6, 5)), uplink, GATEWAY)
        came = sent_on(ping, HOST, GATEWAY, IPV6, uplink)
        assert (came.ends, came.icmp[1]) == (ends(BALANCED6, 5, NET6, 5), 129)
    sent = tcp(ends(NET6, 7, BALANCED6, 80))
    lost(town.fabric("LB6", sent), "BALANCER_NO_TARGET")
    town.call("create_target", LB6, OTHER)
    for uplink in (0, 1):
        assert relayed(town.fabric("LB6", sent, uplink), OTHER, IPV6, uplink).data == sent
    lost(town.fabric("LB6", udp(ends(NET6, 7, BALANCED6, 80))), "BALANCER")
    town.call("delete_target", LB6, OTHER)
    town.call("create_target", LB6, town.u["prefix6"])
    assert arrived(town.fabric("LB6", sent), B).data == sent
    answer = tcp(ends(BALANCED6, 80, NET6, 7), SYN | ACK)
    assert sent_on(town.guest(B, answer), town.u["b"], GATEWAY, IPV6).data == answer


def balanced_over_many(town: Town) -> None:
    """64 targets, 15 ports: each flow goes where every other host would send it."""
    ports = tuple((port, Protocol.TCP) for port in range(1, 16))
    wanted = NewBalancer(BalancerId("wide"), Vni(100), EXTRA, ports)
    town.u["wide"] = town.trial.call(lambda model: model.create_balancer(wanted)).underlay
    for target in reversed(TARGETS):
        town.call("create_target", BalancerId("wide"), target)
    seen = set()
    for number in range(300):
        sent = tcp(ends(NET4, 1024 + number, EXTRA, 1 + number % 15))
        expected, found = town.trial.from_uplink(0, tunnelled(sent, town.u["wide"]))
        assert found == expected
        assert isinstance(found, Tunnelled)
        seen.add(IPv6Address(found.frame[38:54]))
    assert len(seen) > 60
    assert seen <= set(TARGETS)
    lost(town.fabric("wide", tcp(ends(NET4, 7, EXTRA, 16))), "BALANCER")


def nat64_limits(town: Town) -> None:
    """Only of guests with NAT, only by a default route, and of ICMPv6 only echoes."""
    sent = udp(ends(A6, 7, FAR64, 53))
    assert sent_on(town.guest(A, sent), town.u["a"], GATEWAY, IPV6).data == sent, "a has none"
    body = transport(ends(B6, 0, FAR64, 0), ICMPV6, struct.pack("!BBHHH", 1, 4, 0, 0, 0) + udp(ends(B6, 1, B6, 1))[:48])
    lost(town.guest(B, ip(B6, FAR64, ICMPV6, body)), "ICMP_ERROR")
    body = transport(ends(B6, 0, FAR64, 0), ICMPV6, struct.pack("!BBHI", 130, 0, 0, 0) + bytes(16))
    lost(town.guest(B, ip(B6, FAR64, ICMPV6, body)), "NAT64")
    town.trial.call(calls.create_route(Vni(100), ip_network("64:ff9b::/96"), OTHER))
    sent = udp(ends(B6, 8, FAR64, 53))
    assert sent_on(town.guest(B, sent), town.u["b"], OTHER, IPV6).data == sent, "somebody else translates"


def private_ranges_behind_a_vip(town: Town) -> None:
    """An alias prefix's addresses and a balanced one are no business of the interface's VIP and NAT."""
    for port, source, name in ((A, IPv4Address("10.0.2.9"), "a"), (B, BALANCED, "b")):
        sent = udp(ends(source, 7, NET4, 53))
        assert sent_on(town.guest(port, sent), town.u[name], GATEWAY, IPV4).data == sent
    town.trial.call(lambda model: model.create_prefix(InterfaceId("b"), IPv4Network("10.0.3.0/24"), None))
    inside = udp(ends(A4, 7, IPv4Address("10.0.3.3"), 53))
    assert arrived(town.guest(A, inside), B).data == inside
    back = udp(ends(IPv4Address("10.0.3.3"), 53, A4, 7))
    assert arrived(town.guest(B, back), A).data == back


def translated_late(town: Town) -> None:
    """A VIP, and NAT, are for conversations as well that the guest is having already, but for no other."""
    town.call("delete_vip", InterfaceId("a"))
    town.call("delete_nat", InterfaceId("b"))
    private = udp(ends(B4, 8, FAR4, 53))
    alias = udp(ends(ALIAS, 7, NET4, 53))
    town.guest(B, private)
    town.guest(A, alias)
    for port, own, six, name in ((A, A4, A6, "a"), (B, B4, B6, "b")):
        sent, over6 = udp(ends(own, 7, NET4, 53)), udp(ends(six, 7, FAR64, 53))
        for _ in range(2):
            assert sent_on(town.guest(port, sent), town.u[name], GATEWAY, IPV4).ends.source == own
            assert sent_on(town.guest(port, over6), town.u[name], GATEWAY, IPV6).data == over6
        known = {(flow.source, flow.source_port) for flow in town.trial.engine.flows() if flow.is_primary}
        if port == A:
            town.call("create_vip", InterfaceId("a"), VIP, None)
        else:
            town.call("create_nat", InterfaceId("b"), SHARED, 1000, 1004, None)
        gone = {(own, 7), (own, 1)} if port == A else {(own, 7), (own, 1), (six, 7)}
        left = {(flow.source, flow.source_port) for flow in town.trial.engine.flows() if flow.is_primary}
        assert known - left <= gone
        assert (own, 7) in known - left
        came = sent_on(town.guest(port, sent), town.u[name], GATEWAY, IPV4)
        assert came.ends.source == (VIP if port == A else SHARED)
        fate = town.guest(port, over6)
        assert isinstance(fate, Tunnelled)
        assert fate.frame[20] == (IPV6 if port == A else IPV4)
    assert sent_on(town.guest(B, private), town.u["b"], OTHER, IPV4).data == private
    assert sent_on(town.guest(A, alias), town.u["a"], GATEWAY, IPV4).data == alias


def routes_that_all_go(town: Town) -> None:
    """ResetVni and Initialize: flows that are known are lost with their routes, and go on when those are back."""
    far, out, near = udp(ends(A4, 7, FAR4, 53)), udp(ends(B4, 7, NET4, 53)), udp(ends(A4, 7, B4, 9))
    town.guest(A, far)
    mapped = sent_on(town.guest(B, out), town.u["b"], GATEWAY, IPV4).ends
    for call in (("reset_vni", Vni(100)), ("initialize",)):
        town.guest(A, near)
        relayed(town.fabric("NAT", udp(ends(NET4, 53, SHARED, 2000))), OTHER, IPV4)
        town.call(*call)
        lost(town.guest(A, far), "NO_ROUTE")
        lost(town.guest(B, out), "NO_ROUTE")
        assert arrived(town.guest(A, near), B).data == near, "guests of the host have their own routes"
        assert arrived(town.fabric("VIP", udp(ends(NET4, 9, VIP, 22))), A).ends.destination == A4
        assert arrived(town.fabric("NAT", udp(mapped.turned())), B).ends.destination == B4
        for prefix, hop in (("0.0.0.0/0", GATEWAY), ("10.0.1.0/24", OTHER)):
            town.trial.call(calls.create_route(Vni(100), ip_network(prefix), hop))
        assert sent_on(town.guest(A, far), town.u["a"], OTHER, IPV4).data == far
        assert sent_on(town.guest(B, out), town.u["b"], GATEWAY, IPV4).ends == mapped
    lost(town.fabric("NAT", udp(ends(NET4, 53, SHARED, 2000))), "NAT_NO_OWNER")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(nat_on_a_vips_address, id="NAT on a VIP's address"),
        pytest.param(balanced_ipv6, id="12 to 16: balanced, IPv6"),
        pytest.param(balanced_over_many, id="balanced over 64 targets"),
        pytest.param(nat64_limits, id="23: what is not NAT64"),
        pytest.param(private_ranges_behind_a_vip, id="prefixes besides VIP and NAT"),
        pytest.param(translated_late, id="VIP and NAT come late"),
        pytest.param(routes_that_all_go, id="routes that all go"),
    ],
)
def test_path(in_town: Callable[[Test], None], path: Test) -> None:
    in_town(path)
