"""What a hostile guest or host sends to get past quotas, rates, firewalls and the checks of tunnels."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, ip_address
from typing import Final, TypeVar

import pytest

from services.dpservice.engine.codec import u32
from services.dpservice.engine.lists import RuleLists
from services.dpservice.engine.runs import run_at_tc
from services.dpservice.model.firewall import NewRule
from services.dpservice.model.interfaces import NewInterface
from services.dpservice.model.packet_rows import Rules
from services.dpservice.model.rows import Direction, FirewallRule, InterfaceId, PortNumber, RuleId
from tests.integration.dpservice.lone_guest import MAC, OWN, PORT_A, SHARED, STRANGER, VNI, A, settle_in
from tests.support.dpservice import calls
from tests.support.dpservice.fates import Delivered, Dropped, Fate, Tunnelled
from tests.support.dpservice.packets import echo, tcp, udp
from tests.support.dpservice.town import framed, tunnelled
from tests.support.dpservice.trial import Run, Trial, agree
from tests.support.dpservice.wire import Endpoints, Packet, read_packet

T = TypeVar("T")
B: Final = InterfaceId("b")
PORT_B: Final = PortNumber(1)
OTHER: Final = IPv4Address("10.0.0.2")
ALL: Final = IPv4Interface("0.0.0.0/0")


def nat(trial: Trial, low: int, high: int, address: IPv4Address = SHARED) -> None:
    trial.call(lambda model: model.create_nat(A, address, low, high, None))


def datagram(source: IPv4Address, port: int, destination: IPv4Address, to: int) -> bytes:
    return udp(Endpoints(source, port, destination, to))


def both(trial: Trial, packet: bytes) -> Fate:
    """The fate of a's packet, on which programs and reference agree."""
    expected, found = trial.from_guest(PORT_A, framed(packet, MAC))
    assert agree(expected, found), f"should be {expected}, is {found}"
    return found


def outside(fate: Fate) -> Packet:
    assert isinstance(fate, Tunnelled), fate
    return read_packet(fate.frame[54:])


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_flows_of_a_guest_to_itself_count(in_trial: Run, kind: str) -> None:
    """Both directions of such a flow have the same key."""

    def attack(trial: Trial) -> None:
        for port in range(1, 21):
            ends = Endpoints(OWN, port, OWN, port)
            assert isinstance(both(trial, udp(ends) if kind == "udp" else tcp(ends)), Delivered)
        assert trial.engine.usage()[PORT_A].flows == 20
        assert len(list(trial.engine.flows())) == 20
        trial.call(lambda model: model.delete_interface(A))
        trial.engine.age()
        assert not trial.engine.usage()

    in_trial(attack)


@pytest.mark.parametrize("public", ["no public address", "VIP", "NAT"])
def test_flows_begun_before_a_guest_came_meet_its_firewall(in_trial: Run, public: str) -> None:
    def attack(trial: Trial) -> None:
        if public == "NAT":
            nat(trial, 1000, 1010)
        if public == "VIP":
            trial.call(lambda model: model.create_vip(A, SHARED, None))
        wanted, refused = datagram(OWN, 7, OTHER, 53), datagram(OWN, 7, OTHER, 22)
        for packet in (wanted, refused):
            assert isinstance(both(trial, packet), Tunnelled)
        trial.call(calls.create_interface(B, "net_tap3", VNI, 2))
        only_dns = FirewallRule(Direction.INGRESS, False, 0, ALL, ALL, None, 0)
        trial.call(lambda model: model.create_rule(B, NewRule(RuleId("none"), only_dns)))
        assert both(trial, refused) == Dropped(frozenset({"FIREWALL"}))
        trial.call(lambda model: model.delete_rule(B, RuleId("none")))
        found = both(trial, wanted)
        assert isinstance(found, Delivered)
        assert found.port == PORT_B
        assert read_packet(found.frame[14:]).ends.source == OWN, "a neighbour is no public destination"

    in_trial(attack)


def test_nat_ports_of_an_earlier_interface_are_not_reused(in_trial: Run) -> None:
    """Its flows are dead but not yet swept when another interface gets its address, and another slice."""

    def attack(trial: Trial) -> None:
        nat(trial, 1000, 1010)
        assert outside(both(trial, datagram(OWN, 7, STRANGER, 53))).ends.source == SHARED
        trial.call(lambda model: model.delete_interface(A))
        settle_in(trial)
        other = IPv4Address("203.0.113.4")
        nat(trial, 2000, 2010, other)
        sent = outside(both(trial, datagram(OWN, 7, STRANGER + 1, 53))).ends
        assert (sent.source, sent.source_port // 10) == (other, 200)
        assert trial.engine.usage()[PORT_A].nat_ports == 1
        trial.engine.age()
        assert trial.engine.usage()[PORT_A].nat_ports == 1, "what is swept is not the new one's"
        again = outside(both(trial, datagram(OWN, 7, STRANGER + 2, 53))).ends
        assert again.source_port == sent.source_port

    in_trial(attack)


def test_one_guest_leaves_room_for_its_neighbours(in_trial: Run) -> None:
    """Without any quota that was asked for: of flows, and of claims, of which one NAT port may have as many."""

    def attack(trial: Trial) -> None:
        nat(trial, 1000, 1010)
        trial.call(calls.create_interface(B, "net_tap3", VNI, 2))
        trial.call(lambda model: model.create_nat(B, SHARED, 2000, 2010, None))
        program, device = trial.engine._object.program("from_guest"), trial.guests[0].ifindex
        for number in range(17_000):
            run_at_tc(program, device, framed(datagram(OWN, 7, STRANGER + number, 53), MAC))
        held = trial.engine.usage()[PORT_A]
        assert (held.flows, held.nat_ports) == (16_384, 1)
        assert trial.engine.drops()["flow_quota"]
        mac = bytes([2, 0xAA, 0, 0, 0, 1])
        assert isinstance(trial.tried_from_guest(PORT_B, framed(datagram(OTHER, 7, STRANGER, 53), mac)), Tunnelled)

    in_trial(attack)


def test_a_used_up_slice_costs_neighbours_little(in_trial: Run) -> None:
    """A search through 64,000 ports takes milliseconds, so that it must not follow every packet."""

    def attack(trial: Trial) -> None:
        nat(trial, 1024, 65536 - 1)
        claims, ports = trial.engine._object.map("nat_claims"), range(1024, 65535)
        layout = trial.engine._codec.layouts["claim_key"]
        keys = (
            layout.pack(nat=SHARED.packed, destination=STRANGER.packed, nat_port=port, destination_port=53, protocol=17)
            for port in ports
        )
        claims.put_many(b"".join(keys), b"".join(u32(1) for _ in ports))
        started = time.monotonic()
        for port in range(1, 501):
            fate = trial.tried_from_guest(PORT_A, framed(datagram(OWN, port, STRANGER, 53), MAC))
            assert fate == Dropped(frozenset({"NAT_PORTS"}))
        assert time.monotonic() - started < 3, "500 whole searches take fifteen seconds"
        assert outside(trial.tried_from_guest(PORT_A, framed(datagram(OWN, 501, STRANGER, 54), MAC))).ends.source_port
        assert trial.engine.usage()[PORT_A].nat_ports == 1
        key = layout.pack(
            nat=SHARED.packed, destination=STRANGER.packed, nat_port=40000, destination_port=53, protocol=17
        )
        claims.remove(key)
        time.sleep(0.3)  # the budget of one search
        sent = outside(trial.tried_from_guest(PORT_A, framed(datagram(OWN, 502, STRANGER, 53), MAC)))
        assert sent.ends.source_port == 40000, "the one port that is free is found"

    in_trial(attack)


@pytest.mark.parametrize("known", [False, True], ids=["first packet", "known flow"])
@pytest.mark.parametrize(
    "packet", [datagram(OWN, 7, STRANGER, 53), echo(Endpoints(OWN, 7, STRANGER, 7))], ids=["UDP", "ICMP"]
)
def test_nothing_travels_behind_the_ip_packet(in_trial: Run, packet: bytes, known: bool) -> None:
    """Rates and MTU go by the packet's length, so there is no more than that."""

    def attack(trial: Trial) -> None:
        if known:
            assert isinstance(both(trial, packet), Tunnelled)
        for trailer in (bytes(30), b"contraband" * 100):
            found = trial.tried_from_guest(PORT_A, framed(packet + trailer, MAC))
            assert isinstance(found, Tunnelled)
            assert found.frame[54:] == packet
            assert int.from_bytes(found.frame[18:20], "big") == len(packet)

    in_trial(attack)


def test_short_frames_may_be_filled_up(in_trial: Run) -> None:
    def send(trial: Trial) -> None:
        frame = framed(datagram(OWN, 7, STRANGER, 53), MAC)
        found = trial.tried_from_guest(PORT_A, frame + bytes(60 - len(frame)))
        assert isinstance(found, Tunnelled)

    in_trial(send)


@pytest.mark.parametrize("known", [False, True], ids=["first packet", "answer to a flow"])
@pytest.mark.parametrize("source", ["::", "::1", "fd00:dead::1"])
def test_outer_sources_have_to_be_known(in_trial: Run, known: bool, source: str) -> None:
    def attack(trial: Trial) -> None:
        if known:
            both(trial, datagram(OWN, 7, STRANGER, 53))
        (nic,) = trial.model.interfaces()
        frame = tunnelled(datagram(STRANGER, 53, OWN, 7), nic.underlay, IPv6Address(source))
        assert trial.tried_from_uplink(0, frame) == Dropped(frozenset({"UNTRUSTED_SOURCE"}))

    in_trial(attack)


def test_an_address_may_move_between_guests_of_a_host(in_trial: Run) -> None:
    """A flow to an alias prefix follows it, if its new owner accepts."""

    def move(trial: Trial) -> None:
        prefix, inside = IPv4Network("10.0.2.0/24"), IPv4Address("10.0.2.9")
        for name, device, last in ((B, "net_tap3", 2), (InterfaceId("c"), "net_tap4", 3)):
            trial.call(lambda model, name=name, device=device, last=last: model.create_interface(
                NewInterface(name, device, VNI, IPv4Address(f"10.0.0.{last}"))))  # fmt: skip
        trial.call(lambda model: model.create_prefix(B, prefix, None))
        found = both(trial, datagram(OWN, 7, inside, 53))
        assert isinstance(found, Delivered)
        assert found.port == PORT_B
        trial.call(lambda model: model.delete_prefix(B, prefix))
        trial.call(lambda model: model.create_prefix(InterfaceId("c"), prefix, None))
        found = both(trial, datagram(OWN, 7, inside, 53))
        assert isinstance(found, Delivered)
        assert found.port == PortNumber(2)

    in_trial(move)


@pytest.mark.parametrize("source", ["0.0.0.0", "::"])
def test_a_missing_address_is_not_a_guests_own(in_trial: Run, source: str) -> None:
    """Of an interface with one family, the unspecified address of the other is nobody's."""

    def attack(trial: Trial) -> None:
        own = {"ipv6": IPv6Address("2001:db8::2")} if source == "0.0.0.0" else {"ipv4": OTHER}
        trial.call(lambda model: model.create_interface(NewInterface(B, "net_tap3", VNI, **own)))
        trial.call(lambda model: model.create_vip(B, SHARED, None))
        to = STRANGER if source == "0.0.0.0" else IPv6Address("2001:db8:9::9")
        spoofed = framed(udp(Endpoints(ip_address(source), 7, to, 53)), bytes([2, 0xAA, 0, 0, 0, 1]))
        expected, found = trial.from_guest(PORT_B, spoofed)
        assert expected == found == Dropped(frozenset({"SPOOFED_ADDRESS"}))
        if source == "0.0.0.0":
            assert trial.tried_from_guest(PORT_A, framed(datagram(OWN, 7, SHARED, 53), MAC)) == Dropped(
                frozenset({"NO_ROUTE"})
            )

    in_trial(attack)


def test_rules_that_a_dying_process_left(in_trial: Run) -> None:
    """Rules of no list are taken away; a list whose rules are gone is put right, and nobody fails over it."""

    def leave(trial: Trial) -> None:
        accept = FirewallRule(Direction.INGRESS, True, 0, ALL, ALL, None, 0)
        trial.call(lambda model: model.create_rule(A, NewRule(RuleId("r"), accept)))
        rules, codec = trial.engine._object.map("rules"), trial.engine._codec
        ((key, raw),) = list(rules.items())
        orphan = codec.rule_key(77, 0)
        rules.put(orphan, raw)
        before = trial.engine.read_back()
        lists = RuleLists(trial.engine._object, codec)
        assert {named: row for named, row in before.items() if isinstance(row, Rules)} == lists.rows()
        assert [left for left, _ in rules.items()] == [key]
        rules.remove(key)
        assert list(RuleLists(trial.engine._object, codec).rows().values()) == [Rules(())]
        rules.put(key, raw)

    in_trial(leave)
