"""Flows that have to be looked at once more: a public address came or went, or answers reach another guest."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_interface

import pytest

from services.dpservice.model.changes import numbered
from services.dpservice.model.firewall import NewRule
from services.dpservice.model.rows import BalancerId, Direction, FirewallRule, InterfaceId, IPAddress, RuleId, Vni
from tests.integration.dpservice.path_town import (
    A4,
    ALIAS,
    B4,
    BALANCED,
    EXTRA,
    FAR4,
    MACS,
    NET4,
    VIP,
    A,
    B,
    Test,
    Town,
    ends,
)
from tests.support.dpservice.fates import Delivered, Dropped, Fate, Tunnelled
from tests.support.dpservice.packets import ACK, SYN, error, tcp, udp
from tests.support.dpservice.town import framed, tunnelled
from tests.support.dpservice.trial import agree
from tests.support.dpservice.wire import read_packet

OWN_A, OWN_B = InterfaceId("a"), InterfaceId("b")
ALL = IPv4Interface("0.0.0.0/0")


def guest(town: Town, port: int, packet: bytes) -> Fate:
    """The fate of a guest's packet, on which programs and reference agree."""
    expected, found = town.trial.from_guest(A if port == A else B, framed(packet, MACS[port]))
    assert agree(expected, found), f"should be {expected}, is {found}"
    return found


def fabric(town: Town, to: str, packet: bytes) -> Fate:
    expected, found = town.trial.from_uplink(0, tunnelled(packet, town.u[to]))
    assert agree(expected, found), f"should be {expected}, is {found}"
    return found


def source(fate: Fate) -> IPAddress:
    assert isinstance(fate, Tunnelled), fate
    return read_packet(fate.frame[54:]).ends.source


@pytest.mark.parametrize("kind", ["UDP", "TCP"])
@pytest.mark.parametrize("address", ["VIP", "NAT"])
def test_a_public_address_counts_for_flows_that_were_there(
    in_town: Callable[[Test], None], address: str, kind: str
) -> None:
    """However often they sent; it is taken away, and another one given."""

    def send(town: Town) -> None:
        town.call("delete_vip", OWN_A)
        public, private = (udp(ends(A4, 7, to, 53)) for to in (NET4, FAR4))
        if kind == "TCP":
            public, private = (tcp(ends(A4, 7, to, 80), ACK) for to in (NET4, FAR4))
        for wanted in (VIP, None, EXTRA):
            if wanted and address == "VIP":
                town.call("create_vip", OWN_A, wanted, None)
            elif wanted:
                town.call("create_nat", OWN_A, wanted, 5000, 5010, None)
            for _ in range(20):
                assert source(guest(town, A, public)) == (wanted or A4)
                assert source(guest(town, A, private)) == A4
            if wanted:
                town.call("delete_vip" if address == "VIP" else "delete_nat", OWN_A)
                assert source(guest(town, A, public)) == A4

    in_town(send)


def test_a_vip_goes_on_for_its_flows_when_nat_comes(in_town: Callable[[Test], None]) -> None:
    """Another address would break their connections."""

    def send(town: Town) -> None:
        assert source(guest(town, A, udp(ends(A4, 7, NET4, 53)))) == VIP
        town.call("create_nat", OWN_A, EXTRA, 5000, 5010, None)
        assert source(guest(town, A, udp(ends(A4, 7, NET4, 53)))) == VIP
        assert source(guest(town, A, udp(ends(A4, 8, NET4, 53)))) == EXTRA

    in_town(send)


def test_a_flow_that_becomes_public_gets_a_public_address(in_town: Callable[[Test], None]) -> None:
    """The route of its own goes, and the default route leads out."""

    def send(town: Town) -> None:
        packet = udp(ends(A4, 7, FAR4, 53))
        assert source(guest(town, A, packet)) == A4
        town.call("delete_route", Vni(100), numbered(IPv4Network("10.0.1.0/24")))
        assert source(guest(town, A, packet)) == VIP

    in_town(send)


def refuse(town: Town, owner: InterfaceId, direction: Direction = Direction.INGRESS) -> None:
    rule = FirewallRule(direction, False, 0, ip_interface(ALL), ALL, None, 0)
    town.call("create_rule", owner, NewRule(RuleId(f"none {direction}"), rule))


@pytest.mark.parametrize("accepts", [False, True], ids=["refuses", "accepts"])
@pytest.mark.parametrize(
    ("to", "asked"), [("a", A4), ("VIP", VIP), ("alias", ALIAS)], ids=["interface", "VIP", "alias prefix"]
)
def test_answers_to_a_tunnel_do_not_enter_another_guest_unasked(
    in_town: Callable[[Test], None], to: str, asked: IPv4Address, accepts: bool
) -> None:
    """A host says that b asked a, and b did not: b's firewall decides of what a answers, as of a's errors."""

    def answer(town: Town) -> None:
        refuse(town, OWN_A, Direction.EGRESS)  # a answers what it let in all the same
        if not accepts:
            refuse(town, OWN_B)
        wanted = Delivered if accepts else Dropped
        question = udp(ends(B4, 53, asked, 7))
        got = fabric(town, to, question)
        assert isinstance(got, Delivered)
        own = ALIAS if to == "alias" else A4
        told = error(own, B4, read_packet(got.frame[14:]), 3, 3)
        for _ in range(3):
            fate = guest(town, A, udp(ends(own, 7, B4, 53)))
            assert isinstance(fate, wanted)
            if isinstance(fate, Delivered):
                assert read_packet(fate.frame[14:]).ends == ends(asked, 7, B4, 53)
            assert isinstance(guest(town, A, told), wanted)
        refuse(town, OWN_A)
        if accepts:  # what was let in goes on
            refuse(town, OWN_B)
            assert isinstance(guest(town, A, udp(ends(own, 7, B4, 53))), Delivered)

    in_town(answer)


def test_answers_by_way_of_a_balancer_were_asked_for(in_town: Callable[[Test], None]) -> None:
    """A guest asks a balancer whose target is its neighbour: out by an uplink, in again, and the answer directly."""

    def ask(town: Town) -> None:
        town.call("create_target", BalancerId("lb"), town.u["prefix"])
        town.call("delete_vip", OWN_A)
        refuse(town, OWN_A)
        question = ends(A4, 7, BALANCED, 80)
        out = guest(town, A, tcp(question, SYN))
        assert isinstance(out, Tunnelled)
        assert isinstance(fabric(town, "LB", out.frame[54:]), Delivered)
        assert isinstance(guest(town, B, tcp(question.turned(), SYN | ACK)), Delivered)
        other = tcp(ends(A4, 8, BALANCED, 80), SYN)
        assert isinstance(fabric(town, "LB", other), Delivered)
        fate = guest(town, B, tcp(read_packet(other).ends.turned(), SYN | ACK))
        assert fate == Dropped(frozenset({"FIREWALL"})), "this one a did not send"

    in_town(ask)
