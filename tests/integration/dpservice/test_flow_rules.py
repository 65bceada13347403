"""What decides about flows, by test runs of the programs: states of TCP, firewalls, and calls that end them."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_interface, ip_network

import pytest

from services.dpservice.model.changes import numbered
from services.dpservice.model.firewall import NewRule
from services.dpservice.model.rows import (
    ANY,
    BalancerId,
    Direction,
    FirewallRule,
    IcmpFilter,
    InterfaceId,
    PortFilter,
    Protocol,
    ProtocolFilter,
    RuleId,
    Vni,
)
from tests.integration.dpservice.path_town import (
    A4,
    A6,
    B4,
    B6,
    BALANCED,
    FAR4,
    NET4,
    SHARED,
    VIP,
    A,
    B,
    Test,
    Town,
    arrived,
    ends,
    lost,
)
from tests.support.dpservice.fates import Delivered, Tunnelled
from tests.support.dpservice.packets import ACK, FIN, RST, SYN, echo, tcp, udp
from tests.support.dpservice.town import HOST, OTHER

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
            assert (entry.seconds_left > 86000) if state == ESTABLISHED else (25 < entry.seconds_left <= 38)

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


def rule(
    direction: Direction,
    accept: bool = True,
    priority: int = 0,
    source: str = "0.0.0.0/0",
    destination: str = "0.0.0.0/0",
    what: ProtocolFilter | None = None,
) -> FirewallRule:
    return FirewallRule(direction, accept, priority, ip_interface(source), ip_interface(destination), what, 0)


IN, OUT = Direction.INGRESS, Direction.EGRESS


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
        (("create_rule", InterfaceId("a"), NewRule(RuleId("none"), rule(IN, False))), set()),
        (("reset_vni", Vni(100)), set()),
        (("initialize",), {"relayed"}),
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


DNS, WEB = PortFilter(Protocol.UDP, ANY, ANY, 53, 53), PortFilter(Protocol.TCP, ANY, ANY, 80, 90)
A_TO_B, NET_TO_VIP, FAR_TO_A = ends(A4, 7, B4, 53), ends(NET4, 7, VIP, 53), ends(FAR4, 7, A4, 53)


@pytest.mark.parametrize(
    ("rules", "where", "packet", "passes"),
    [
        pytest.param([], "a", udp(A_TO_B), True, id="no rules"),
        pytest.param([("a", rule(OUT, what=DNS))], "a", udp(A_TO_B), True, id="egress accepts"),
        pytest.param([("a", rule(OUT, what=WEB))], "a", udp(A_TO_B), False, id="egress: no match"),
        pytest.param([("a", rule(IN, what=WEB))], "a", udp(A_TO_B), True, id="rules of the other direction"),
        pytest.param([("b", rule(IN, what=WEB))], "a", udp(A_TO_B), False, id="ingress of the other guest: no match"),
        pytest.param([("b", rule(IN, what=DNS))], "a", udp(A_TO_B), True, id="ingress of the other guest accepts"),
        pytest.param([("a", rule(OUT, False)), ("a", rule(OUT))], "a", udp(A_TO_B), False, id="the first one counts"),
        pytest.param(
            [("a", rule(OUT, False, 9)), ("a", rule(OUT, True, 3))], "a", udp(A_TO_B), True, id="priority before order"
        ),
        pytest.param([("a", rule(OUT, what=WEB))], "a", tcp(ends(A4, 7, B4, 80)), True, id="first port of a range"),
        pytest.param([("a", rule(OUT, what=WEB))], "a", tcp(ends(A4, 7, B4, 90)), True, id="last port of a range"),
        pytest.param([("a", rule(OUT, what=WEB))], "a", tcp(ends(A4, 7, B4, 91)), False, id="behind a range"),
        pytest.param([("a", rule(OUT, what=WEB))], "a", udp(ends(A4, 7, B4, 80)), False, id="another protocol"),
        pytest.param([("a", rule(OUT, destination="10.0.0.2/32"))], "a", udp(A_TO_B), True, id="destination prefix"),
        pytest.param([("a", rule(OUT, destination="10.0.0.4/30"))], "a", udp(A_TO_B), False, id="outside of it"),
        pytest.param([("a", rule(OUT, source="10.0.2.0/24"))], "a", udp(A_TO_B), False, id="outside of the source"),
        pytest.param([("a", rule(OUT))], "a", udp(ends(A6, 7, B6, 53)), False, id="IPv4 rules for IPv6"),
        pytest.param(
            [("a", rule(OUT, source="2001:db8::/127", destination="::/0"))], "a", udp(ends(A6, 7, B6, 53)), True,
            id="IPv6 lengths",
        ),
        pytest.param(
            [("a", rule(OUT, what=IcmpFilter(8, ANY)))], "a", echo(ends(A4, 7, B4, 7)), True, id="ICMP type"
        ),
        pytest.param(
            [("a", rule(OUT, what=IcmpFilter(0, ANY)))], "a", echo(ends(A4, 7, B4, 7)), False, id="another ICMP type"
        ),
        pytest.param(
            [("a", rule(OUT, what=IcmpFilter(8, 1)))], "a", echo(ends(A4, 7, B4, 7)), False, id="another ICMP code"
        ),
        pytest.param(
            [("a", rule(OUT, destination="10.9.0.0/16", what=IcmpFilter(8, ANY)))], "a", echo(ends(A4, 7, B4, 7)),
            False, id="prefixes count for ICMP",
        ),
        pytest.param([("a", rule(IN, what=WEB))], "tunnel", udp(FAR_TO_A), False, id="from a tunnel: no match"),
        pytest.param([("a", rule(IN, source="10.0.1.0/24"))], "tunnel", udp(FAR_TO_A), True, id="from a tunnel"),
        pytest.param(
            [("a", rule(IN, destination="10.0.0.1/32"))], "VIP", udp(NET_TO_VIP), True, id="after destination NAT"
        ),
        pytest.param(
            [("a", rule(IN, destination="203.0.113.1/32"))], "VIP", udp(NET_TO_VIP), False, id="not the public address"
        ),
        pytest.param(
            [("a", rule(OUT, source="10.0.0.1/32"))], "a", udp(ends(A4, 7, NET4, 53)), True, id="before source NAT"
        ),
    ],
)  # fmt: skip
def test_firewall(
    in_town: Callable[[Test], None],
    rules: list[tuple[str, FirewallRule]],
    where: str,
    packet: bytes,
    passes: bool,
) -> None:
    def send(town: Town) -> None:
        for number, (owner, each) in enumerate(rules):
            town.call("create_rule", InterfaceId(owner), NewRule(RuleId(f"r{number}"), each))
        for _ in range(2):
            fate = town.guest(A, packet) if where == "a" else town.fabric("a" if where == "tunnel" else where, packet)
            if passes:
                assert isinstance(fate, Delivered | Tunnelled)
            else:
                lost(fate, "FIREWALL")

    in_town(send)


def test_firewalls_know_flows(in_town: Callable[[Test], None]) -> None:
    """Answers pass; so does what was accepted when it began; what was refused is remembered by nobody."""

    def converse(town: Town) -> None:
        for owner in "ab":
            town.call("create_rule", InterfaceId(owner), NewRule(RuleId("out"), rule(OUT, what=DNS)))
        town.call("create_rule", InterfaceId("b"), NewRule(RuleId("in"), rule(IN, what=DNS)))
        town.call("create_rule", InterfaceId("a"), NewRule(RuleId("in"), rule(IN, what=WEB)))
        before = len(list(town.trial.engine.flows()))
        lost(town.guest(B, udp(ends(B4, 53, A4, 7))), "FIREWALL")
        assert len(list(town.trial.engine.flows())) == before
        arrived(town.guest(A, udp(A_TO_B)), B)
        arrived(town.guest(B, udp(A_TO_B.turned())), A)
        town.call("delete_rule", InterfaceId("b"), RuleId("in"))
        town.call("create_rule", InterfaceId("b"), NewRule(RuleId("in"), rule(IN, False)))
        arrived(town.guest(A, udp(A_TO_B)), B)
        lost(town.guest(A, udp(ends(A4, 8, B4, 53))), "FIREWALL")

    in_town(converse)
