"""The reference model of packets does what DPDKironcore's paths say; it then judges the programs."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_interface

import pytest

from services.dpservice.model.keys import FirewallKey
from services.dpservice.model.rows import ANY, Direction, FirewallRule, IPAddress, PortFilter, Protocol, RuleId
from tests.support.dpservice.fates import Delivered, Fate, Passed, Tunnelled, dropped
from tests.support.dpservice.packets import ACK, echo, error, packet, tcp, udp
from tests.support.dpservice.reference import Reference
from tests.support.dpservice.town import (
    BALANCED,
    GATEWAY,
    HOST,
    OTHER,
    REMOTE_GUEST,
    SHARED,
    STRANGER,
    STRANGER6,
    VIP,
    VNI,
    ends,
    framed,
    guest,
    town,
    tunnelled,
    underlay,
)
from tests.support.dpservice.wire import ICMP, TCP, UDP, Endpoints, Packet, read_packet, verified

ONE, TWO = guest(1, VNI), guest(2, VNI)
A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")


@pytest.fixture
def host() -> Reference:
    return Reference(town())


def inner(fate: Fate) -> Packet:
    """The guest's packet in whatever was sent, all of its checksums right."""
    assert isinstance(fate, Delivered | Tunnelled), fate
    read = read_packet(fate.frame[14 if isinstance(fate, Delivered) else 54 :])
    assert verified(read)
    return read


def outer(fate: Fate) -> tuple[IPv6Address, IPv6Address]:
    assert isinstance(fate, Tunnelled), fate
    return IPv6Address(fate.frame[22:38]), IPv6Address(fate.frame[38:54])


def between(fate: Fate) -> Endpoints:
    return inner(fate).ends


def test_guest_to_guest_of_the_same_host(host: Reference) -> None:
    sent = udp(ends(A, 5, B, 6))
    assert host.from_guest(ONE.port, framed(sent)) == Delivered(
        TWO.port, bytes.fromhex("02dd00000002") * 2 + b"\x08\x00" + sent
    )


@pytest.mark.parametrize(
    ("source", "destination", "hop"), [(A, REMOTE_GUEST, OTHER), (A6, STRANGER6, GATEWAY)], ids=["IPv4", "IPv6"]
)
def test_to_another_host(host: Reference, source: IPAddress, destination: IPAddress, hop: IPv6Address) -> None:
    sent = udp(ends(source, 5, destination, 6))
    fate = host.from_guest(ONE.port, framed(sent))
    assert outer(fate) == (ONE.underlay, hop)
    assert inner(fate).data == sent


def test_from_another_host(host: Reference) -> None:
    sent = tcp(ends(REMOTE_GUEST, 5, A, 6))
    fate = host.from_uplink(0, tunnelled(sent, ONE.underlay))
    assert isinstance(fate, Delivered)
    assert (fate.port, inner(fate).data) == (ONE.port, sent)


def test_vip_out_and_back(host: Reference) -> None:
    fate = host.from_guest(ONE.port, framed(tcp(ends(A, 5, STRANGER, 80))))
    assert (outer(fate), between(fate)) == ((ONE.underlay, GATEWAY), ends(VIP, 5, STRANGER, 80))
    fate = host.from_uplink(0, tunnelled(tcp(ends(STRANGER, 80, VIP, 5), ACK), underlay(11)))
    assert between(fate) == ends(STRANGER, 80, A, 5)


def test_vip_in_and_back(host: Reference) -> None:
    fate = host.from_uplink(0, tunnelled(tcp(ends(STRANGER, 9, VIP, 22)), underlay(11)))
    assert between(fate) == ends(STRANGER, 9, A, 22)
    fate = host.from_guest(ONE.port, framed(tcp(ends(A, 22, STRANGER, 9), ACK)))
    assert between(fate) == ends(VIP, 22, STRANGER, 9)


@pytest.mark.parametrize("protocol", [TCP, UDP, ICMP])
def test_nat_out_and_back(host: Reference, protocol: int) -> None:
    port = 77 if protocol == ICMP else 80
    fate = host.from_guest(TWO.port, framed(packet(ends(B, 77, STRANGER, port), protocol).data))
    out = between(fate)
    assert (out.source, out.destination) == (SHARED, STRANGER)
    assert 1000 <= out.source_port < 1004
    answer = packet(out.turned(), protocol, answer=True)
    fate = host.from_uplink(0, tunnelled(answer.data, underlay(12)))
    assert between(fate) == ends(STRANGER, port, B, 77)


def test_nat_runs_out_of_ports_towards_one_destination(host: Reference) -> None:
    fates = [host.from_guest(TWO.port, framed(udp(ends(B, port, STRANGER, 80)))) for port in range(7, 12)]
    assert {between(fate).source_port for fate in fates[:4]} == {1000, 1001, 1002, 1003}
    assert fates[4] == dropped("NAT_PORTS")


def test_nat_keeps_an_endpoints_port_for_other_destinations(host: Reference) -> None:
    first = between(host.from_guest(TWO.port, framed(udp(ends(B, 7, STRANGER, 80)))))
    second = between(host.from_guest(TWO.port, framed(tcp(ends(B, 7, STRANGER, 81)))))
    assert first.source_port == second.source_port


def test_a_neighbors_slice_is_relayed_and_nobodys_dropped(host: Reference) -> None:
    sent = udp(ends(STRANGER, 9, SHARED, 2500))
    fate = host.from_uplink(1, tunnelled(sent, underlay(12)))
    assert (outer(fate), inner(fate).data) == ((HOST, OTHER), sent)
    assert isinstance(fate, Tunnelled)
    assert fate.uplink == 1
    fate = host.from_uplink(1, tunnelled(udp(ends(STRANGER, 9, SHARED, 3000)), underlay(12)))
    assert fate == dropped("NAT_NO_OWNER")


@pytest.mark.parametrize(("address", "function"), [(SHARED, 12), (BALANCED, 14)], ids=["NAT", "balancer"])
def test_echo_of_a_public_address(host: Reference, address: IPAddress, function: int) -> None:
    fate = host.from_uplink(1, tunnelled(echo(ends(STRANGER, 9, address, 9)), underlay(function)))
    assert outer(fate) == (HOST, OTHER)
    assert inner(fate).data == echo(ends(address, 9, STRANGER, 9), answer=True)


def test_balancer_sends_on_or_in(host: Reference) -> None:
    fates = [host.from_uplink(0, tunnelled(tcp(ends(STRANGER, port, BALANCED, 80)), underlay(14))) for port in range(9)]
    assert {type(fate) for fate in fates} == {Tunnelled, Delivered}
    assert {outer(fate) for fate in fates if isinstance(fate, Tunnelled)} == {(HOST, OTHER)}
    assert {fate.port for fate in fates if isinstance(fate, Delivered)} == {TWO.port}
    assert {between(fate).destination for fate in fates} == {BALANCED}
    fate = host.from_uplink(0, tunnelled(tcp(ends(STRANGER, 1, BALANCED, 81)), underlay(14)))
    assert fate == dropped("BALANCER")


def test_a_target_answers_directly(host: Reference) -> None:
    host.from_uplink(0, tunnelled(tcp(ends(STRANGER, 9, BALANCED, 80)), underlay(15)))
    fate = host.from_guest(TWO.port, framed(tcp(ends(BALANCED, 80, STRANGER, 9), ACK)))
    assert (outer(fate), between(fate)) == ((TWO.underlay, GATEWAY), ends(BALANCED, 80, STRANGER, 9))


def test_guest_to_a_vip_of_the_same_vni(host: Reference) -> None:
    assert between(host.from_guest(TWO.port, framed(udp(ends(B, 5, VIP, 6))))) == ends(B, 5, A, 6)
    assert between(host.from_guest(ONE.port, framed(udp(ends(A, 6, B, 5))))) == ends(VIP, 6, B, 5)


@pytest.mark.parametrize("protocol", [TCP, UDP, ICMP])
def test_nat64(host: Reference, protocol: int) -> None:
    port = 77 if protocol == ICMP else 80
    fate = host.from_guest(TWO.port, framed(packet(ends(B6, 77, STRANGER6, port), protocol).data))
    out = between(fate)
    assert (inner(fate).version, out.source, out.destination) == (4, SHARED, STRANGER)
    fate = host.from_uplink(0, tunnelled(packet(out.turned(), protocol, answer=True).data, underlay(12)))
    assert between(fate) == ends(STRANGER6, port, B6, 77)


def test_an_error_follows_the_flow_that_it_is_about(host: Reference) -> None:
    sent = inner(host.from_guest(TWO.port, framed(udp(ends(B, 7, STRANGER, 80)))))
    fate = host.from_uplink(0, tunnelled(error(REMOTE_GUEST, SHARED, sent), underlay(12)))
    told = inner(fate)
    assert (told.ends.source, told.ends.destination) == (REMOTE_GUEST, B)
    assert told.quoted.ends == ends(B, 7, STRANGER, 80)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        pytest.param(framed(udp(ends(B, 5, REMOTE_GUEST, 6))), "SPOOFED_ADDRESS", id="another's address"),
        pytest.param(framed(udp(ends(A, 5, STRANGER, 6)), b"\2" * 6), "SPOOFED_MAC", id="another's MAC"),
        pytest.param(framed(bytes(20)), "MALFORMED", id="no IP"),
    ],
)
def test_refused_from_guests(host: Reference, frame: bytes, reason: str) -> None:
    host.from_guest(ONE.port, framed(udp(ends(A, 5, B, 6))))
    fate = host.from_guest(ONE.port, frame)
    assert reason in getattr(fate, "reasons", ())


@pytest.mark.parametrize(
    ("to", "source", "fate"),
    [
        pytest.param(underlay(99), OTHER, dropped("UNKNOWN_UNDERLAY"), id="an address of no function"),
        pytest.param(ONE.underlay, IPv6Address("2001:db8::1"), dropped("UNTRUSTED_SOURCE"), id="from outside"),
        pytest.param(OTHER, OTHER, Passed(), id="another host's"),
    ],
)
def test_refused_from_the_fabric(host: Reference, to: IPv6Address, source: IPv6Address, fate: Fate) -> None:
    assert host.from_uplink(0, tunnelled(udp(ends(REMOTE_GUEST, 1, A, 2)), to, source)) == fate


def test_firewall(host: Reference) -> None:
    rule = FirewallRule(
        Direction.INGRESS,
        accept=True,
        priority=10,
        source=ip_interface("10.0.1.0/24"),
        destination=ip_interface("0.0.0.0/0"),
        filter=PortFilter(Protocol.TCP, ANY, ANY, 80, 90),
        order=0,
    )
    host.world.rows[FirewallKey(ONE.id, RuleId("r"))] = rule
    fine, closed = tcp(ends(REMOTE_GUEST, 1, A, 80)), tcp(ends(REMOTE_GUEST, 1, A, 91))
    assert isinstance(host.from_uplink(0, tunnelled(fine, ONE.underlay)), Delivered)
    assert host.from_uplink(0, tunnelled(closed, ONE.underlay)) == dropped("FIREWALL")
    asked = host.from_guest(ONE.port, framed(tcp(ends(A, 91, REMOTE_GUEST, 1))))
    assert isinstance(asked, Tunnelled)
    assert isinstance(host.from_uplink(0, tunnelled(closed, ONE.underlay)), Delivered)
