"""Every path that a packet may take, by test runs of the programs: where it goes, what is changed, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from services.dpservice.model.changes import numbered
from services.dpservice.model.keys import FunctionKey
from services.dpservice.model.rows import BalancerId, Function, FunctionKind, InterfaceId, Vni
from tests.integration.dpservice.path_town import (
    A4,
    A6,
    ALIAS,
    B4,
    B6,
    BALANCED,
    C4,
    EXTRA,
    FAR4,
    FAR6,
    FAR64,
    IPV4,
    IPV6,
    NET4,
    NET6,
    SHARED,
    VIP,
    A,
    B,
    C,
    Test,
    Town,
    arrived,
    ends,
    lost,
    relayed,
    sent_on,
)
from tests.support.dpservice import calls
from tests.support.dpservice.fates import Delivered, Tunnelled
from tests.support.dpservice.packets import ACK, SYN, TTL, echo, error, tcp, udp
from tests.support.dpservice.town import GATEWAY, HOST, OTHER, tunnelled
from tests.support.dpservice.wire import read_packet, verified


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
            assert relayed(town.fabric("NAT", sent, uplink, GATEWAY), OTHER, IPV4, uplink).data == sent
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
        assert relayed(town.fabric("LB", sent, uplink, GATEWAY), OTHER, IPV4, uplink).data == sent
    lost(town.fabric("LB", tcp(ends(NET4, 7, BALANCED, 81))), "BALANCER")
    lost(town.fabric("LB", udp(ends(NET4, 7, BALANCED, 80))), "BALANCER")
    town.call("create_target", target, town.u["prefix"])
    assert relayed(town.fabric("LB", sent), OTHER, IPV4).data == sent, "a flow keeps its target"
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
    passed_on = read_packet(udp(ends(SHARED, 2500, NET4, 53)))
    told = error(router, SHARED, passed_on, 3, 4)
    assert relayed(town.fabric("NAT", told, 1, GATEWAY), OTHER, IPV4, 1).data == told
    town.call("create_target", BalancerId("lb"), OTHER)
    told = error(router, BALANCED, read_packet(tcp(ends(BALANCED, 80, NET4, 7))), 3, 4)
    assert relayed(town.fabric("LB", told), OTHER, IPV4).data == told


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


def vip_and_nat(town: Town) -> None:
    """NAT is for what goes out, the VIP for what comes in and its answers."""
    town.call("create_vip", InterfaceId("b"), EXTRA, None)
    to = next(key.underlay for key, row in town.trial.reference.world.rows.items()
              if isinstance(key, FunctionKey) and isinstance(row, Function)
              and row.kind is FunctionKind.VIP and row.port == B)  # fmt: skip
    came = sent_on(town.guest(B, udp(ends(B4, 7, NET4, 53))), town.u["b"], GATEWAY, IPV4)
    assert came.ends.source == SHARED
    came = arrived(town.trial.tried_from_uplink(0, tunnelled(udp(ends(NET4, 53, EXTRA, 9)), to)), B)
    assert came.ends.destination == B4
    came = sent_on(town.guest(B, udp(ends(B4, 9, NET4, 53))), town.u["b"], GATEWAY, IPV4)
    assert came.ends.source == EXTRA


def one_port_for_all_destinations(town: Town) -> None:
    """The protocol does not count either; a slice of four serves four endpoints towards one destination."""
    first = town.guest(B, udp(ends(B4, 7, NET4, 53)))
    port = sent_on(first, town.u["b"], GATEWAY, IPV4).ends.source_port
    for packet in (udp(ends(B4, 7, NET4 + 1, 53)), udp(ends(B4, 7, NET4, 54)), tcp(ends(B4, 7, NET4, 53))):
        assert sent_on(town.guest(B, packet), town.u["b"], GATEWAY, IPV4).ends.source_port == port
    taken = {port}
    for source in (8, 9, 10):
        taken.add(sent_on(town.guest(B, udp(ends(B4, source, NET4, 53))), town.u["b"], GATEWAY, IPV4).ends.source_port)
    assert taken == {1000, 1001, 1002, 1003}
    lost(town.guest(B, udp(ends(B4, 11, NET4, 53))), "NAT_PORTS")
    assert town.trial.engine.usage()[B].nat_ports == 5, "four, and that of the guest's first packet"


def slices_that_overlap(town: Town) -> None:
    """Two guests of a host may have one slice: no two get one port towards one destination."""
    town.call("delete_vip", InterfaceId("a"))
    town.call("create_nat", InterfaceId("a"), SHARED, 1000, 1004, None)
    seen = set()
    for number in range(4):
        guest, own, name = ((A, A4, "a"), (B, B4, "b"))[number % 2]
        came = sent_on(town.guest(guest, udp(ends(own, 20 + number, NET4, 53))), town.u[name], GATEWAY, IPV4)
        seen.add(came.ends.source_port)
        back = arrived(town.fabric("NAT", udp(ends(NET4, 53, SHARED, came.ends.source_port))), guest)
        assert back.ends.destination == own
    assert len(seen) == 4
    lost(town.guest(A, udp(ends(A4, 30, NET4, 53))), "NAT_PORTS")
    town.call("create_neighbor", Vni(100), SHARED, 900, 1100, OTHER)
    (port, *_) = seen
    assert isinstance(town.fabric("NAT", udp(ends(NET4, 53, SHARED, port))), Delivered), "a local flow wins"
    relayed(town.fabric("NAT", udp(ends(NET4, 99, SHARED, port))), OTHER, IPV4)


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
        pytest.param(vip_and_nat, id="VIP and NAT together"),
        pytest.param(one_port_for_all_destinations, id="one NAT port for all destinations"),
        pytest.param(slices_that_overlap, id="NAT slices that overlap"),
        pytest.param(nowhere, id="24: what goes nowhere"),
        pytest.param(time_to_live, id="25: TTL 0 and 1"),
    ],
)
def test_path(in_town: Callable[[Test], None], path: Test) -> None:
    in_town(path)
