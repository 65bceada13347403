"""What packets may not outgrow: an interface's share of fragments, the hops between hosts, the uplink's MTU."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.dpservice.engine.interface import UplinkState
from services.dpservice.engine.runs import run_at_tc
from services.dpservice.model.rows import BalancerId
from tests.integration.dpservice.path_town import (
    A4,
    B4,
    B6,
    BALANCED,
    FAR4,
    MACS,
    NET4,
    NET6,
    SHARED,
    A,
    B,
    Test,
    Town,
    ends,
    lost,
    relayed,
)
from tests.support.dpservice.fates import Delivered, Tunnelled
from tests.support.dpservice.packets import ACK, fragments, tcp, udp
from tests.support.dpservice.town import ARRIVING, OTHER, framed, tunnelled
from tests.support.dpservice.trial import REDIRECT, SHOT
from tests.support.dpservice.wire import read_packet

PLACES = 64  # as in layout_flows.h
FLOOD = 5000  # more than all tenants of a host had in common
MTU = 1500


def from_a(town: Town, number: int) -> list[bytes]:
    return fragments(udp(ends(A4, 7, FAR4, 53), bytes(60)), number)


@pytest.mark.parametrize("inbound", [False, True], ids=["guests send", "guests get"])
def test_no_guest_makes_another_lose_fragments(in_town: Callable[[Test], None], inbound: bool) -> None:
    """Between the fragments of b's packet, somebody begins thousands from, or to, a."""

    def attack(town: Town) -> None:
        asked = ends(FAR4, 53, B4, 9) if inbound else ends(B4, 9, FAR4, 53)
        first, *others = fragments(udp(asked, bytes(60)), 77)
        flood = fragments(udp(ends(FAR4, 53, A4, 7) if inbound else ends(A4, 7, FAR4, 53), bytes(60)), 1)[0]
        sent = (lambda packet: town.fabric("b", packet)) if inbound else (lambda packet: town.guest(B, packet))
        passed = Delivered if inbound else Tunnelled
        assert isinstance(sent(first), passed)
        program = town.trial.engine._object.program("from_uplink" if inbound else "from_guest")
        device = (town.trial.uplinks if inbound else town.trial.guests)[0].ifindex
        for number in range(FLOOD):
            piece = flood[:4] + number.to_bytes(2, "big") + flood[6:]
            frame = tunnelled(piece, town.u["a"]) if inbound else framed(piece, MACS[A])
            assert run_at_tc(program, device, frame)[0] == REDIRECT
        for other in others:
            assert isinstance(sent(other), passed)

    in_town(attack)


def test_as_many_packets_in_fragments_as_a_guest_may_have(in_town: Callable[[Test], None]) -> None:
    """Of packets whose fragments come mixed, the earliest is forgotten when there are too many."""

    def send(town: Town) -> None:
        packets = [from_a(town, number) for number in range(500, 500 + PLACES)]
        for pieces in zip(*packets, strict=True):
            for piece in pieces:
                assert isinstance(town.guest(A, piece), Tunnelled)
        town.guest(A, from_a(town, 500 + PLACES)[0])
        told = [town.guest(A, pieces[1]) for pieces in packets]
        assert sum(not isinstance(fate, Tunnelled) for fate in told) == 1
        for fate in told:
            if not isinstance(fate, Tunnelled):
                lost(fate, "FRAGMENT_SHARE")

    in_town(send)


def test_a_fragment_without_a_first_one(in_town: Callable[[Test], None]) -> None:
    in_town(lambda town: lost(town.guest(A, from_a(town, 9)[1]), "FRAGMENT"))


@pytest.mark.parametrize("to", ["NAT", "LB"])
def test_hosts_that_name_each_other_end_it(in_town: Callable[[Test], None], to: str) -> None:
    """The other host, whose entry names this one, sends the same packet back."""

    def circle(town: Town) -> None:
        town.call("create_target", BalancerId("lb"), OTHER)
        packet = udp(ends(NET4, 53, SHARED, 2500) if to == "NAT" else ends(NET4, 7, BALANCED, 53))
        hops, rounds = ARRIVING, 0
        fate = town.fabric(to, packet)
        while isinstance(fate, Tunnelled):
            hops, rounds = hops - 1, rounds + 1
            assert fate.frame[21] == hops
            assert fate.frame[54:] == packet
            fate = town.fabric(to, packet, hop_limit=hops - 1)  # the other host takes one too
            hops -= 1
        lost(fate, "HOP_LIMIT")
        assert rounds == ARRIVING // 2
        lost(town.fabric(to, packet, hop_limit=0), "HOP_LIMIT")
        assert relayed(town.fabric(to, packet), OTHER, 4).data == packet

    in_town(circle)


@pytest.mark.parametrize(("to", "told"), [("NAT", ARRIVING), ("VIP", ARRIVING), ("a", 0)])
def test_a_hop_limit_outlives_the_outer_header(in_town: Callable[[Test], None], to: str, told: int) -> None:
    """Where packets may be sent on. Elsewhere it would keep packets from being merged."""

    def unwrap(town: Town) -> None:
        packet = udp(ends(NET4, 53, SHARED, 2500))
        _, after = town.trial.tried_at_xdp(tunnelled(packet, town.u[to]))
        mark = after[: len(after) - len(packet) - 14]
        assert int.from_bytes(mark[6:8], "little") == told

    in_town(unwrap)


@pytest.mark.parametrize("known", [False, True], ids=["first packet", "known flow"])
@pytest.mark.parametrize(
    ("packet", "headers"),
    [
        pytest.param(tcp(ends(A4, 7, NET4, 80), ACK, bytes(2900)), 40, id="TCP"),
        pytest.param(udp(ends(A4, 7, NET4, 80), bytes(2900)), 28, id="UDP"),
        pytest.param(tcp(ends(B6, 7, NET6, 80), ACK, bytes(2900)), 60, id="TCP over IPv6"),
    ],
)
def test_segments_have_to_fit(in_town: Callable[[Test], None], packet: bytes, headers: int, known: bool) -> None:
    """A guest says itself into what the kernel is to cut its large packets."""

    def send(town: Town) -> None:
        trial, port = town.trial, A if packet[0] >> 4 == 4 else B
        program = trial.engine._object.program("from_guest")

        def tried(gso_size: int) -> tuple[int, bytes, set[str]]:
            before = trial.engine.drops()
            verdict, after = run_at_tc(program, trial.guests[port].ifindex, framed(packet, MACS[port]), gso_size)
            return (
                verdict,
                after,
                {reason for reason, number in trial.engine.drops().items() if number > before[reason]},
            )

        largest = MTU - 40 - headers
        for index, link in enumerate(trial.uplinks):
            trial.engine.set_uplink(
                index, UplinkState(f"pf{index}", link.ifindex, True, link.mac, True, link.router, MTU)
            )
        try:
            if known:
                small = packet[:2] + (80).to_bytes(2, "big") + packet[4:80]
                small = packet[:4] + (40).to_bytes(2, "big") + packet[6:80] if packet[0] >> 4 == 6 else small
                town.guest(port, small)
            for gso_size in (0, largest + 1, 2800):
                verdict, after, counted = tried(gso_size)
                assert (verdict, counted) == (REDIRECT, {"too_big"})
                answer = read_packet(after[14:])
                assert answer.icmp in ((1, 3), (58, 2))
                at = answer.transport + 4
                assert int.from_bytes(answer.data[at : at + 4], "big") == MTU - 40
            # A packet of no kind that could be cut, as those of test runs are, gets as far as to the outer header.
            for gso_size in (largest, 500):
                assert tried(gso_size)[::2] == (SHOT, {"encapsulation"})
        finally:
            for index, link in enumerate(trial.uplinks):
                trial.engine.set_uplink(
                    index, UplinkState(f"pf{index}", link.ifindex, True, link.mac, True, link.router)
                )

    in_town(send)
