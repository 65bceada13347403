"""The rules of VIPs, NAT, neighbors, balancers, firewalls and captures: what is refused, and what comes first."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

import pytest

from services.dpservice.model.balancers import NewBalancer
from services.dpservice.model.changes import numbered
from services.dpservice.model.errors import Refusal
from services.dpservice.model.firewall import NewRule
from services.dpservice.model.keys import NeighborKey
from services.dpservice.model.rows import (
    BalancerId,
    Capture,
    Direction,
    FirewallRule,
    InterfaceId,
    IPAddress,
    RuleId,
    Vni,
)
from services.dpservice.model.state import Limits, Model
from services.dpservice.model.underlay import UnderlayAddress
from tests.unit.dpservice.builders import HOP, content, model, net, nic

VM1, VM2, NOBODY, VNI = InterfaceId("vm1"), InterfaceId("vm2"), InterfaceId("nobody"), Vni(100)
LB, NO_LB = BalancerId("lb1"), BalancerId("none")
TAKEN = UnderlayAddress(IPv6Address("fc00:1::d000:8000:0:1"))
VIP, NAT, PUBLIC6 = IPv4Address("45.86.6.1"), IPv4Address("45.86.6.2"), IPv6Address("2001:db8::99")
TARGET, OTHER = IPv6Address("fc00:3::1"), IPv6Address("fc00:3::2")
OWNER = UnderlayAddress(IPv6Address("fc00:2::d000:1:0:9"))


def balancer(name: str = "lb2", vni: int = 100, address: str = "10.9.9.8", **fields: Any) -> NewBalancer:
    wanted: IPAddress = IPv6Address(address) if ":" in address else IPv4Address(address)
    return NewBalancer(BalancerId(name), Vni(vni), wanted, **fields)


def rule(name: str, direction: Direction = Direction.INGRESS, *, accept: bool = True, priority: int = 0) -> NewRule:
    anywhere = ip_interface("0.0.0.0/0")
    return NewRule(RuleId(name), FirewallRule(direction, accept, priority, anywhere, anywhere, None, order=0))


def capture(*points: str | int) -> Capture:
    return Capture(TARGET, 1, 2, tuple(point if isinstance(point, int) else InterfaceId(point) for point in points))


def populated(limits: Limits | None = None, *, accept_only: bool = False) -> Model:
    """vm1 with everything an interface can have, vm2 with nothing, a balancer with a target, a neighbor, a capture."""
    made = model(limits, accept_only=accept_only)
    made.create_interface(nic("vm1", preferred=str(TAKEN)))
    made.create_interface(nic("vm2", "net_tap3", ipv4="10.0.0.2"))
    made.create_vip(VM1, VIP, None)
    made.create_nat(VM1, NAT, 100, 200, None)
    made.create_balancer_prefix(VM1, net("10.9.9.9/32"), None)
    made.create_neighbor(VNI, NAT, 300, 400, OWNER)
    made.create_balancer(balancer("lb1", address="10.9.9.9"))
    made.create_target(LB, TARGET)
    made.create_rule(VM1, rule("r1"))
    made.start_capture(capture("vm1", 0))
    return made


@pytest.mark.parametrize(
    ("call", "code"),
    [
        # VIP
        pytest.param(lambda m: m.vip(NOBODY), 205, id="VIP of nobody"),
        pytest.param(lambda m: m.vip(VM2), 341, id="no VIP"),
        pytest.param(lambda m: m.create_vip(NOBODY, PUBLIC6, TAKEN), 205, id="create VIP: the interface first"),
        pytest.param(lambda m: m.create_vip(VM1, PUBLIC6, TAKEN), 204, id="create VIP: then the IP version"),
        pytest.param(lambda m: m.create_vip(VM1, VIP, TAKEN), 401, id="create VIP: then the underlay address"),
        pytest.param(lambda m: m.create_vip(VM1, VIP, None), 343, id="create VIP: then the interface's own"),
        pytest.param(lambda m: m.create_vip(VM2, VIP, None), 323, id="create VIP: then the address"),
        pytest.param(lambda m: m.create_vip(VM2, NAT, None), 323, id="VIP of an address that is shared"),
        pytest.param(lambda m: m.delete_vip(NOBODY), 205, id="delete VIP of nobody"),
        pytest.param(lambda m: m.delete_vip(VM2), 341, id="delete no VIP"),
        # NAT
        pytest.param(lambda m: m.nat(NOBODY), 205, id="NAT of nobody"),
        pytest.param(lambda m: m.nat(VM2), 341, id="no NAT"),
        pytest.param(lambda m: m.create_nat(NOBODY, PUBLIC6, 1, 2, TAKEN), 205, id="create NAT: the interface first"),
        pytest.param(lambda m: m.create_nat(VM1, PUBLIC6, 1, 2, TAKEN), 204, id="create NAT: then the IP version"),
        pytest.param(lambda m: m.create_nat(VM1, NAT, 1, 2, TAKEN), 401, id="create NAT: then the underlay address"),
        pytest.param(lambda m: m.create_nat(VM1, NAT, 1, 2, None), 343, id="create NAT: then the interface's own"),
        pytest.param(lambda m: m.delete_nat(NOBODY), 205, id="delete NAT of nobody"),
        pytest.param(lambda m: m.delete_nat(VM2), 341, id="delete no NAT"),
        pytest.param(lambda m: m.local_nats(PUBLIC6), 204, id="list NAT of IPv6"),
        # Neighbors
        pytest.param(lambda m: m.neighbors(PUBLIC6), 204, id="list neighbors of IPv6"),
        pytest.param(lambda m: m.create_neighbor(VNI, PUBLIC6, 1, 2, OWNER), 204, id="neighbor of IPv6"),
        pytest.param(lambda m: m.create_neighbor(VNI, NAT, 399, 500, OWNER), 202, id="neighbors overlap"),
        pytest.param(lambda m: m.create_neighbor(Vni(7), NAT, 1, 301, OWNER), 202, id="neighbors overlap across VNIs"),
        pytest.param(lambda m: m.delete_neighbor(VNI, PUBLIC6, 300, 400), 204, id="delete neighbor of IPv6"),
        pytest.param(lambda m: m.delete_neighbor(VNI, NAT, 300, 399), 201, id="delete neighbor: the exact range"),
        pytest.param(lambda m: m.delete_neighbor(Vni(7), NAT, 300, 400), 201, id="delete neighbor: the exact VNI"),
        # Balancer prefixes
        pytest.param(lambda m: m.balancer_prefixes(NOBODY), 205, id="balancer prefixes of nobody"),
        pytest.param(
            lambda m: m.create_balancer_prefix(NOBODY, net("10.9.9.9/32"), TAKEN), 205, id="balancer prefix of nobody"
        ),
        pytest.param(
            lambda m: m.create_balancer_prefix(VM1, net("10.9.9.9/32"), TAKEN), 202, id="the same balancer prefix"
        ),
        pytest.param(
            lambda m: m.create_balancer_prefix(VM2, net("10.9.9.9/32"), TAKEN), 401, id="its underlay address"
        ),
        pytest.param(
            lambda m: m.delete_balancer_prefix(NOBODY, net("10.9.9.9/32")), 205, id="delete balancer prefix of nobody"
        ),
        pytest.param(lambda m: m.delete_balancer_prefix(VM2, net("10.9.9.9/32")), 201, id="delete no balancer prefix"),
        # Balancers and targets
        pytest.param(lambda m: m.balancer(NO_LB), 201, id="no balancer"),
        pytest.param(
            lambda m: m.create_balancer(balancer("lb1", address="10.9.9.9", preferred=TAKEN)),
            401,
            id="create balancer: the underlay address first",
        ),
        pytest.param(lambda m: m.create_balancer(balancer(address="10.9.9.9")), 202, id="a balanced address"),
        pytest.param(lambda m: m.create_balancer(balancer("lb1")), 202, id="a balancer's id"),
        pytest.param(lambda m: m.delete_balancer(NO_LB), 201, id="delete no balancer"),
        pytest.param(lambda m: m.targets(NO_LB), 422, id="targets of no balancer"),
        pytest.param(lambda m: m.create_target(NO_LB, NAT), 204, id="create target: the IP version first"),
        pytest.param(lambda m: m.create_target(NO_LB, TARGET), 422, id="create target: then the balancer"),
        pytest.param(lambda m: m.create_target(LB, TARGET), 202, id="a target twice"),
        pytest.param(lambda m: m.create_target(LB, IPv6Address("::")), 202, id="a target nowhere"),
        pytest.param(lambda m: m.delete_target(NO_LB, NAT), 204, id="delete target: the IP version first"),
        pytest.param(lambda m: m.delete_target(NO_LB, TARGET), 422, id="delete target: then the balancer"),
        pytest.param(lambda m: m.delete_target(LB, OTHER), 201, id="delete no target"),
        # Firewall
        pytest.param(lambda m: m.rules(NOBODY), 205, id="rules of nobody"),
        pytest.param(lambda m: m.rule(NOBODY, RuleId("r1")), 205, id="a rule of nobody"),
        pytest.param(lambda m: m.rule(VM2, RuleId("r1")), 201, id="no rule"),
        pytest.param(lambda m: m.create_rule(NOBODY, rule("r1")), 205, id="create rule of nobody"),
        pytest.param(lambda m: m.create_rule(VM1, rule("r1", accept=False)), 202, id="a rule twice"),
        pytest.param(lambda m: m.delete_rule(NOBODY, RuleId("r1")), 205, id="delete rule of nobody"),
        pytest.param(lambda m: m.delete_rule(VM2, RuleId("r1")), 201, id="delete no rule"),
        # Captures
        pytest.param(lambda m: m.start_capture(capture("nobody")), 210, id="a second capture"),
        # Metering
        pytest.param(
            lambda m: m.create_interface(nic("n", "net_tap4", ipv4="10.0.0.4", total_rate=10, public_rate=11)),
            383,
            id="public rate above total rate",
        ),
        pytest.param(
            lambda m: m.create_interface(nic("n", "net_tap4", ipv4="10.0.0.4", total_rate=1 << 32)),
            383,
            id="a rate of more than 32 bits",
        ),
        pytest.param(
            lambda m: m.create_interface(nic("n", "net_tap4", total_rate=1 << 32)), 301, id="routes before rates"
        ),
    ],
)
def test_refusals(call: Callable[[Model], object], code: int) -> None:
    made = populated()
    before = content(made)
    with pytest.raises(Refusal) as refused:
        call(made)
    assert refused.value.code == code
    assert content(made) == before, "nothing is half done"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        pytest.param(lambda m: m.create_rule(VM1, rule("r2", accept=False)), 441, id="a rule that drops"),
        pytest.param(lambda m: m.create_rule(VM1, rule("r1", accept=False)), 202, id="after a rule twice"),
    ],
)
def test_where_rules_are_not_enforced(call: Callable[[Model], object], code: int) -> None:
    with pytest.raises(Refusal) as refused:
        call(populated(accept_only=True))
    assert refused.value.code == code


def test_captures_that_are_refused() -> None:
    made = populated()
    assert made.stop_capture()[0] == 2
    with pytest.raises(Refusal) as refused:
        made.stop_capture()
    assert refused.value.code == 211
    with pytest.raises(Refusal) as refused:
        made.start_capture(capture("vm2", "nobody"))
    assert refused.value.code == 201
    assert made.capture() is None


@pytest.mark.parametrize(
    ("limits", "call", "code"),
    [
        pytest.param(Limits(underlay=6), lambda m: m.create_vip(VM2, VIP, None), 401, id="underlay addresses"),
        pytest.param(
            Limits(publics=2), lambda m: m.create_vip(VM2, IPv4Address("45.86.6.9"), None), 322, id="VIPs' addresses"
        ),
        pytest.param(
            Limits(publics=2),
            lambda m: m.create_nat(VM2, IPv4Address("45.86.6.9"), 1, 2, None),
            322,
            id="NAT addresses",
        ),
        pytest.param(Limits(neighbors=1), lambda m: m.create_neighbor(VNI, NAT, 1, 2, OWNER), 208, id="neighbors"),
        pytest.param(Limits(balancers=1), lambda m: m.create_balancer(balancer()), 208, id="balancers"),
        pytest.param(Limits(vnis=1), lambda m: m.create_balancer(balancer(vni=7)), 361, id="VNIs"),
        pytest.param(Limits(targets=1), lambda m: m.create_target(LB, OTHER), 423, id="targets"),
        pytest.param(Limits(rules=1), lambda m: m.create_rule(VM1, rule("r2")), 208, id="rules"),
    ],
)
def test_limits(limits: Limits, call: Callable[[Model], object], code: int) -> None:
    made = populated(limits)
    with pytest.raises(Refusal) as refused:
        call(made)
    assert refused.value.code == code


def test_a_shared_address_needs_no_room_twice() -> None:
    made = populated(Limits(publics=2))
    made.create_nat(VM2, NAT, 150, 250, None)
    made.create_neighbor(VNI, NAT, 1000, 2000, OWNER)


def test_a_vip_may_be_shared_by_nat_afterwards_and_stays_the_vips() -> None:
    made = populated()
    made.create_nat(VM2, VIP, 1, 2, None)
    assert made.vip(VM1).address == made.nat(VM2).address == VIP


def test_local_nats_come_in_the_order_of_the_originals_table() -> None:
    made = model()
    made.create_interface(nic("vm1", ipv4="10.100.1.1"))
    made.create_interface(nic("vm2", "net_tap3", ipv4="10.100.1.2"))
    made.create_nat(VM1, NAT, 1, 2, None)
    made.create_nat(VM2, NAT, 2, 3, None)
    assert [each.owner.id for each in made.local_nats(NAT)] == ["vm2", "vm1"]
    assert made.local_nats(VIP) == []
    assert len(made.local_nats(IPv4Address(0))) == 2


def test_neighbors_come_in_the_order_of_their_making() -> None:
    made = populated()
    made.create_neighbor(Vni(7), NAT, 1, 2, OWNER)
    made.create_neighbor(VNI, VIP, 1, 2, OWNER)
    assert [key.min_port for key, _ in made.neighbors(NAT)] == [300, 1]
    assert [key.address for key, _ in made.neighbors(IPv4Address(0))] == [NAT, NAT, VIP]


def test_targets_come_in_ascending_order() -> None:
    made = populated()
    made.create_balancer(balancer())
    made.create_target(BalancerId("lb2"), IPv6Address("fc00:2::1"))
    made.create_target(LB, IPv6Address("fc00:1::1"))
    assert [str(each) for each in made.targets(LB)] == ["fc00:1::1", "fc00:3::1"]
    assert [str(each) for each in made.targets(None)] == ["fc00:1::1", "fc00:3::1", "fc00:2::1"]


def test_rules_come_in_the_order_of_their_making() -> None:
    made = populated()
    made.create_rule(VM1, rule("a", priority=5))
    made.create_rule(VM1, rule("b", priority=1))
    made.delete_rule(VM1, RuleId("r1"))
    assert [rule_id for rule_id, _ in made.rules(VM1)] == ["a", "b"]


def test_a_balancer_alone_keeps_a_vni() -> None:
    made = populated()
    made.create_route(VNI, numbered(net("0.0.0.0/0")), HOP)
    made.delete_interface(VM1)
    made.delete_interface(VM2)
    assert made.uses(VNI)
    assert len(list(made.routes(VNI))) == 1
    made.delete_balancer(LB)
    assert not made.uses(VNI)
    assert (made.neighbors(IPv4Address(0)), made.routes_by_vni()) == ([], {})


def test_a_deleted_interface_leaves_nothing_behind() -> None:
    made = populated()
    made.delete_interface(VM1)
    assert made.capture() == capture(0)
    made.create_interface(nic("vm1"))
    for call in (made.vip, made.nat):
        with pytest.raises(Refusal) as refused:
            call(VM1)
        assert refused.value.code == 341
    assert made.balancer_prefixes(VM1) == []
    assert made.rules(VM1) == []
    made.create_vip(VM2, VIP, None)


def test_initialize_forgets_neighbors_but_nothing_of_interfaces() -> None:
    made = populated()
    made.initialize()
    assert made.neighbors(IPv4Address(0)) == []
    assert (made.vip(VM1).address, made.nat(VM1).address, made.targets(LB)) == (VIP, NAT, [TARGET])


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.create_vip(VM2, IPv4Address("45.86.6.9"), None)[1], id="create VIP"),
        pytest.param(lambda m: m.delete_vip(VM1), id="delete VIP"),
        pytest.param(lambda m: m.create_nat(VM2, NAT, 1, 2, None)[1], id="create NAT"),
        pytest.param(lambda m: m.delete_nat(VM1), id="delete NAT"),
        pytest.param(lambda m: m.create_neighbor(VNI, NAT, 1, 2, OWNER), id="create neighbor"),
        pytest.param(lambda m: m.delete_neighbor(VNI, NAT, 300, 400), id="delete neighbor"),
        pytest.param(lambda m: m.create_balancer_prefix(VM2, net("10.9.9.9/32"), None)[1], id="create balancer prefix"),
        pytest.param(lambda m: m.delete_balancer_prefix(VM1, net("10.9.9.9/32")), id="delete balancer prefix"),
        pytest.param(lambda m: m.create_balancer(balancer())[1], id="create balancer"),
        pytest.param(lambda m: m.delete_balancer(LB), id="delete balancer"),
        pytest.param(lambda m: m.create_target(LB, OTHER), id="create target"),
        pytest.param(lambda m: m.delete_target(LB, TARGET), id="delete target"),
        pytest.param(lambda m: m.create_rule(VM2, rule("r1")), id="create rule"),
        pytest.param(lambda m: m.delete_rule(VM1, RuleId("r1")), id="delete rule"),
        pytest.param(lambda m: m.stop_capture()[1], id="stop capture"),
        pytest.param(lambda m: m.delete_interface(VM1), id="delete interface"),
        pytest.param(lambda m: m.initialize(), id="initialize"),
    ],
)
def test_undo(call: Callable[[Model], Any]) -> None:
    made = populated()
    before, indexes = content(made), index_sizes(made)
    changes = call(made)
    assert content(made) != before
    made.undo(changes)
    assert content(made) == before
    assert index_sizes(made) == indexes


def index_sizes(made: Model) -> dict[str, object]:
    """What has to come back with the rows, in a form that doesn't depend on their order."""
    tables = vars(made.tables)
    return {name: len(table) if hasattr(table, "__len__") else table for name, table in tables.items()} | {
        "nat users": dict(made.tables.nat_users),
        "VNI users": dict(made.tables.vni_users),
        "neighbors": {key: set(keys) for key, keys in made.tables.neighbors_of.items()},
        "functions": {port: set(found) for port, found in made.tables.functions_of.items()},
    }


def test_a_neighbor_is_known_by_its_exact_range() -> None:
    made = populated()
    assert made.neighbors(NAT)[0][0] == NeighborKey(VNI, NAT, 300, 400)
