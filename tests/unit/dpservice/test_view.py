"""What packets are told of a change, and which flows go with it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

import pytest

from services.dpservice.guest.services import GuestServices
from services.dpservice.model.changes import Change, numbered
from services.dpservice.model.firewall import NewRule
from services.dpservice.model.flushes import (
    NatOfPort,
    NeighborRange,
    OfPort,
    OriginalDestination,
    Selector,
    Target,
    Untranslated,
    VipOfPort,
    flushes,
)
from services.dpservice.model.keys import BalancerNumberKey, PortKey, PublicKey, RulesKey, SourceKey
from services.dpservice.model.packet_rows import AllowedSource, PacketBalancer, PacketCapture, Port, Public, Rules
from services.dpservice.model.rows import (
    ANY,
    BalancerNumber,
    Direction,
    FirewallRule,
    IcmpFilter,
    IPNetwork,
    PortFilter,
    PortNumber,
    Protocol,
    ProtocolFilter,
    RuleId,
    Vni,
)
from services.dpservice.model.state import Model
from services.dpservice.model.underlay import UnderlayAddress
from services.dpservice.model.view import PacketView
from tests.unit.dpservice.builders import HOP, model, net, nic
from tests.unit.dpservice.test_model_services import LB, NAT, OTHER, OWNER, TARGET, VIP, VM1, VM2, VNI, populated, rule

ZERO, ONE = PortNumber(0), PortNumber(1)
OTHER4 = IPv4Address("45.86.6.9")


def told(made: Model, view: PacketView, call: Callable[[Model], Any]) -> dict[object, object]:
    answer = call(made)
    changes = view.follow(answer if isinstance(answer, list) else answer[1])
    return {change.key: change.after for change in changes if isinstance(change, Change)}


def start(*, enforce: bool = True) -> tuple[Model, PacketView]:
    made = populated()
    view = PacketView(made.tables, GuestServices(), enforce=enforce)
    view.start()
    return made, view


@pytest.mark.parametrize(
    ("call", "key", "row"),
    [
        pytest.param(lambda m: m.delete_vip(VM1), PublicKey(VNI, VIP), None, id="VIP goes"),
        pytest.param(
            lambda m: m.create_vip(VM2, OTHER4, None), PublicKey(VNI, OTHER4), Public(ONE), id="VIP belongs to a port"
        ),
        pytest.param(
            lambda m: m.create_nat(VM2, OTHER4, 1, 2, None), PublicKey(VNI, OTHER4), Public(None), id="NAT is a mark"
        ),
        pytest.param(
            lambda m: m.create_neighbor(Vni(7), NAT, 1, 2, OWNER),
            PublicKey(Vni(7), NAT),
            Public(None),
            id="a neighbor's mark",
        ),
        pytest.param(
            lambda m: m.delete_target(LB, TARGET),
            BalancerNumberKey(BalancerNumber(0)),
            PacketBalancer(VNI, IPv4Address("10.9.9.9"), (), (), UnderlayAddress(IPv6Address("fc00:1::d000:1:0:5"))),
            id="a balancer loses its target",
        ),
        pytest.param(
            lambda m: m.create_balancer_prefix(VM2, net("10.9.9.9/32"), None),
            SourceKey(ONE, net("10.9.9.9/32")),
            AllowedSource(),
            id="a balancer prefix is a source",
        ),
        pytest.param(
            lambda m: m.delete_balancer_prefix(VM1, net("10.9.9.9/32")),
            SourceKey(ZERO, net("10.9.9.9/32")),
            None,
            id="no longer",
        ),
        pytest.param(
            lambda m: m.delete_rule(VM1, RuleId("r1")), RulesKey(ZERO, Direction.INGRESS), None, id="the last rule"
        ),
    ],
)
def test_rows(call: Callable[[Model], Any], key: object, row: object) -> None:
    made, view = start()
    changes = told(made, view, call)
    assert key in changes
    assert changes[key] == row


def test_an_address_shared_by_nat_is_marked_until_its_last_user_goes() -> None:
    made, view = start()
    assert PublicKey(VNI, NAT) not in told(made, view, lambda m: m.create_nat(VM2, NAT, 1, 2, None))
    assert PublicKey(VNI, NAT) not in told(made, view, lambda m: m.delete_nat(VM1))
    assert PublicKey(VNI, NAT) not in told(made, view, lambda m: m.delete_neighbor(VNI, NAT, 300, 400))
    assert told(made, view, lambda m: m.delete_nat(VM2))[PublicKey(VNI, NAT)] is None


def test_a_vip_that_goes_leaves_the_mark_of_nat() -> None:
    made, view = start()
    assert PublicKey(VNI, VIP) not in told(made, view, lambda m: m.create_nat(VM2, VIP, 1, 2, None))
    assert told(made, view, lambda m: m.delete_vip(VM1))[PublicKey(VNI, VIP)] == Public(None)


def test_a_port_has_its_public_addresses_and_rates() -> None:
    made, view = model(), PacketView(model().tables, GuestServices())
    view = PacketView(made.tables, GuestServices())
    told(made, view, lambda m: m.create_interface(nic("vm1", total_rate=20, public_rate=10)))
    told(made, view, lambda m: m.create_vip(VM1, VIP, None))
    port = told(made, view, lambda m: m.create_nat(VM1, NAT, 1, 2, None))[PortKey(ZERO)]
    assert isinstance(port, Port)
    assert (port.vip, port.nat, port.total_rate, port.public_rate) == (VIP, made.nat(VM1), 20, 10)


def new(
    name: str, direction: Direction, accept: bool, priority: int, prefix: IPNetwork, filter_: ProtocolFilter | None
) -> NewRule:
    return NewRule(
        RuleId(name),
        FirewallRule(direction, accept, priority, ip_interface(prefix), ip_interface(prefix), filter_, order=0),
    )


def test_rules_are_sorted_by_priority_then_age_and_fully_decided() -> None:
    made, view = start()
    anywhere, egress = net("0.0.0.0/0"), Direction.EGRESS
    made.create_rule(VM2, new("late", egress, False, 9, anywhere, PortFilter(Protocol.TCP, ANY, ANY, 80, 81)))
    made.create_rule(VM2, new("first", egress, True, 0, anywhere, None))
    made.create_rule(VM2, new("second", egress, True, 0, net("::/0"), IcmpFilter(128, ANY)))
    rules = view.start()[RulesKey(ONE, Direction.EGRESS)]
    assert isinstance(rules, Rules)
    first, second, late = rules.rules
    assert (first.protocol, first.source_ports, first.icmp_type) == (Protocol.UNDEFINED, (0, 65535), ANY)
    assert (second.protocol, second.icmp_type, second.icmp_code) == (Protocol.ICMPV6, 128, ANY)
    assert (late.accept, late.protocol) == (False, Protocol.TCP)
    assert (late.source_ports, late.destination_ports) == ((0, 65535), (80, 81))


def test_packets_have_no_rules_where_they_are_not_enforced() -> None:
    made, view = start(enforce=False)
    assert not any(isinstance(key, RulesKey) for key in view.start())
    assert told(made, view, lambda m: m.create_rule(VM2, rule("r1"))) == {}


def test_a_port_comes_before_and_goes_after_what_refers_to_it() -> None:
    made, view = start()
    come = view.follow(made.create_interface(nic("vm3", "net_tap4", ipv4="10.0.0.3"))[1])
    assert isinstance(come[0], Change)
    assert come[0].key == PortKey(PortNumber(2))
    gone = view.follow(made.delete_interface(VM1))
    assert isinstance(gone[-1], Change)
    assert gone[-1].key == PortKey(ZERO)


def test_what_is_captured_has_ports() -> None:
    _, view = start()
    assert view.capture() == PacketCapture(TARGET, 1, 2, (ZERO,), (0,))


@pytest.mark.parametrize(
    ("call", "selectors"),
    [
        pytest.param(
            lambda m: m.delete_interface(VM1),
            [OfPort(ZERO), OriginalDestination(VNI, IPv4Address("10.0.0.1"))],
            id="interface",
        ),
        pytest.param(lambda m: m.delete_vip(VM1), [VipOfPort(ZERO)], id="VIP"),
        pytest.param(lambda m: m.delete_nat(VM1), [NatOfPort(ZERO)], id="NAT"),
        pytest.param(
            lambda m: m.create_vip(VM2, IPv4Address("1.2.3.9"), None),
            [Untranslated(ONE, IPv4Address("10.0.0.2"), False)],
            id="a new VIP",
        ),
        pytest.param(
            lambda m: m.create_nat(VM2, NAT, 500, 600, None),
            [Untranslated(ONE, IPv4Address("10.0.0.2"), True)],
            id="a new NAT",
        ),
        pytest.param(
            lambda m: m.delete_neighbor(VNI, NAT, 300, 400), [NeighborRange(VNI, NAT, 300, 400)], id="neighbor"
        ),
        pytest.param(lambda m: m.delete_target(LB, TARGET), [Target(UnderlayAddress(TARGET))], id="target"),
        pytest.param(
            lambda m: m.delete_balancer(LB), [OriginalDestination(VNI, IPv4Address("10.9.9.9"))], id="balancer"
        ),
        pytest.param(lambda m: m.create_target(LB, OTHER), [], id="a new target"),
        pytest.param(lambda m: m.create_rule(VM1, rule("r2")), [], id="a rule"),
        pytest.param(lambda m: m.delete_rule(VM1, RuleId("r1")), [], id="a rule that goes"),
        pytest.param(lambda m: m.delete_balancer_prefix(VM1, net("10.9.9.9/32")), [], id="a balancer prefix"),
        pytest.param(lambda m: m.create_route(VNI, numbered(net("0.0.0.0/0")), HOP), [], id="a route"),
        pytest.param(lambda m: m.reset_vni(VNI), [], id="ResetVni"),
        pytest.param(lambda m: m.initialize(), [NeighborRange(VNI, NAT, 300, 400)], id="Initialize"),
    ],
)
def test_flushes(call: Callable[[Model], Any], selectors: list[Selector]) -> None:
    made = populated()
    answer = call(made)
    assert flushes(answer if isinstance(answer, list) else answer[1], made.tables) == selectors
