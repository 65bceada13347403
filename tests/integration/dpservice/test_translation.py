"""Rewriting in both directions, by test runs: what a guest gets back belongs to what it sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

import pytest

from services.dpservice.model.rows import InterfaceId, NatSlice, PortNumber
from tests.support.dpservice import calls
from tests.support.dpservice.fates import Delivered, Dropped, Fate, Tunnelled
from tests.support.dpservice.packets import ACK, error, packet
from tests.support.dpservice.town import framed, tunnelled
from tests.support.dpservice.trial import Trial, agree, trials
from tests.support.dpservice.wire import ICMP, ICMPV6, TCP, UDP, Endpoints, IPAddress, Packet, read_packet, verified

T = TypeVar("T")
GUEST4, GUEST6 = IPv4Address("10.0.0.1"), IPv6Address("2001:db8::1")
FAR4, FAR64 = IPv4Address("198.51.100.9"), IPv6Address("64:ff9b::c633:6409")
PUBLIC = IPv4Address("203.0.113.1")
MAC = bytes([2, 0xAA, 0, 0, 0, 0])
PORT = PortNumber(0)


@pytest.fixture(scope="module")
def in_trial() -> Iterator[Callable[[Callable[[Trial], T]], T]]:
    with trials() as run:
        yield run


def prepare(trial: Trial) -> NatSlice:
    """A guest with both families, a NAT slice and default routes."""
    trial.reset()
    trial.call(calls.create_interface(InterfaceId("a"), calls.DEVICES[0], calls.VNIS[0], 1))
    for prefix in calls.ROUTES[:2]:
        trial.call(calls.create_route(calls.VNIS[0], prefix, calls.HOPS[1]))
    made = trial.call(lambda model: model.create_nat(InterfaceId("a"), PUBLIC, 1000, 1004, None))
    assert isinstance(made, NatSlice)
    return made


def both_agree(fates: tuple[Fate, Fate]) -> Fate:
    expected, found = fates
    assert agree(expected, found), f"should be {expected} but is {found}"
    return found


def came_out(fate: Fate) -> Packet:
    assert isinstance(fate, Delivered | Tunnelled), fate
    came = read_packet(fate.frame[14 if isinstance(fate, Delivered) else 54 :])
    assert verified(came)
    return came


@pytest.mark.parametrize(
    ("source", "far", "protocol", "outside"),
    [
        pytest.param(GUEST4, FAR4, TCP, TCP, id="NAT of TCP"),
        pytest.param(GUEST4, FAR4, UDP, UDP, id="NAT of UDP"),
        pytest.param(GUEST4, FAR4, ICMP, ICMP, id="NAT of echoes"),
        pytest.param(GUEST6, FAR64, TCP, TCP, id="NAT64 of TCP"),
        pytest.param(GUEST6, FAR64, UDP, UDP, id="NAT64 of UDP"),
        pytest.param(GUEST6, FAR64, ICMPV6, ICMP, id="NAT64 of echoes"),
    ],
)
def test_there_and_back(
    in_trial: Callable[[Callable[[Trial], None]], None],
    source: IPAddress,
    far: IPAddress,
    protocol: int,
    outside: int,
) -> None:
    def use(trial: Trial) -> None:
        nat = prepare(trial)
        is_icmp = protocol in (ICMP, ICMPV6)
        ends = Endpoints(source, 5000, far, 5000 if is_icmp else 80)
        for _ in range(2):  # the slow path, then the fast one
            sent = packet(ends, protocol, flags=ACK)
            seen = came_out(both_agree(trial.from_guest(PORT, framed(sent.data, MAC))))
            assert (seen.protocol, seen.ends.source, seen.ends.destination) == (outside, PUBLIC, FAR4)
            assert 1000 <= seen.ends.source_port < 1004
            answer = packet(seen.ends.turned(), outside, flags=ACK, answer=True)
            back = came_out(both_agree(trial.from_uplink(0, tunnelled(answer.data, nat.underlay))))
            assert (back.protocol, back.ends) == (protocol, ends.turned())

    in_trial(use)


@pytest.mark.parametrize("protocol", [pytest.param(TCP, id="TCP"), pytest.param(UDP, id="UDP")])
def test_error_finds_its_way_through_nat(in_trial: Callable[[Callable[[Trial], None]], None], protocol: int) -> None:
    def use(trial: Trial) -> None:
        nat = prepare(trial)
        sent = packet(Endpoints(GUEST4, 5000, FAR4, 80), protocol)
        seen = came_out(both_agree(trial.from_guest(PORT, framed(sent.data, MAC))))
        told = error(IPv4Address("192.0.2.1"), PUBLIC, seen, 3, 4)
        back = came_out(both_agree(trial.from_uplink(0, tunnelled(told, nat.underlay))))
        assert back.ends.destination == GUEST4
        assert GUEST4.packed in back.data[28:48], "the packet inside is the guest's own"

    in_trial(use)


def test_slice_is_used_up(in_trial: Callable[[Callable[[Trial], None]], None]) -> None:
    def use(trial: Trial) -> None:
        prepare(trial)
        ports = set()
        for number in range(4):
            sent = packet(Endpoints(GUEST4, 5000 + number, FAR4, 80), UDP)
            ports.add(came_out(both_agree(trial.from_guest(PORT, framed(sent.data, MAC)))).ends.source_port)
        assert ports == {1000, 1001, 1002, 1003}
        sent = packet(Endpoints(GUEST4, 5004, FAR4, 80), UDP)
        assert isinstance(both_agree(trial.from_guest(PORT, framed(sent.data, MAC))), Dropped)
        assert trial.engine.usage()[PORT].nat_ports == 4
        trial.call(lambda model: model.delete_nat(InterfaceId("a")))
        assert trial.engine.usage() == {}, "what was held is given back"

    in_trial(use)
