"""The rules: what is refused, with which code, and which of several wrongs counts first."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

import pytest

from services.dpservice.model.changes import numbered, one_by_one
from services.dpservice.model.errors import Refusal
from services.dpservice.model.keys import FunctionKey, RouteKey
from services.dpservice.model.rows import InterfaceId, LocalHop, PortNumber, Vni
from services.dpservice.model.state import Limits, Model
from services.dpservice.model.underlay import UnderlayAddress
from tests.unit.dpservice.builders import HOP, content, model, net, nic

VM1, NOBODY, VNI = InterfaceId("vm1"), InterfaceId("nobody"), Vni(100)
TAKEN = "fc00:1::d000:8000:0:1"


def populated() -> Model:
    """vm1 with an alias prefix and a chosen underlay address, an external route, vm2 in VNI 200."""
    made = model()
    made.create_interface(nic("vm1", preferred=TAKEN))
    made.create_prefix(VM1, net("10.1.0.0/24"), None)
    made.create_route(VNI, numbered(net("10.0.0.2/32")), HOP)
    made.create_interface(nic("vm2", "net_tap3", 200, "10.0.0.1", "2001:db8::1"))
    return made


@pytest.mark.parametrize(
    ("call", "code", "name"),
    [
        # CreateInterface, in the order of its checks: each row is wrong in everything that comes later as well
        pytest.param(
            lambda m: m.create_interface(nic("vm1", "net_tap99", preferred=TAKEN)),
            *(201, "NOT_FOUND"),
            id="an unknown device comes first",
        ),
        pytest.param(
            lambda m: m.create_interface(nic("vm1", "net_tap2", preferred=TAKEN)),
            *(202, "ALREADY_EXISTS"),
            id="a device in use comes before its address",
        ),
        pytest.param(
            lambda m: m.create_interface(nic("vm9", "pf0")), 202, "ALREADY_EXISTS", id="an uplink counts as used"
        ),
        pytest.param(
            lambda m: m.create_interface(nic("vm1", "net_tap4", preferred=TAKEN)),
            *(401, "VNF_INSERT"),
            id="a taken underlay address comes before the id",
        ),
        pytest.param(
            lambda m: m.create_interface(nic("vm1", "net_tap4")),
            *(402, "VM_HANDLE"),
            id="a used id comes before the routes",
        ),
        pytest.param(
            lambda m: m.create_interface(nic("vm9", "net_tap4")),
            *(301, "ROUTE_EXISTS"),
            id="the address is in the VNI already",
        ),
        pytest.param(
            lambda m: m.create_interface(nic("vm9", "net_tap4", ipv4="10.0.0.2")),
            *(301, "ROUTE_EXISTS"),
            id="an external route has the address",
        ),
        pytest.param(
            lambda m: m.create_interface(nic("vm9", "net_tap4", 200, "10.0.0.9", "2001:db8::1")),
            *(301, "ROUTE_EXISTS"),
            id="the IPv6 address is in the VNI already",
        ),
        # The rest of the interface calls
        pytest.param(lambda m: m.interface(NOBODY), 201, "NOT_FOUND", id="get an unknown interface"),
        pytest.param(lambda m: m.delete_interface(NOBODY), 201, "NOT_FOUND", id="delete an unknown interface"),
        # Prefixes
        pytest.param(lambda m: m.prefixes(NOBODY), 205, "NO_VM", id="list prefixes of nobody"),
        pytest.param(
            lambda m: m.create_prefix(NOBODY, net("10.1.0.0/24"), UnderlayAddress(IPv6Address(TAKEN))),
            *(205, "NO_VM"),
            id="prefix of nobody",
        ),
        pytest.param(
            lambda m: m.create_prefix(VM1, net("10.1.0.0/24"), UnderlayAddress(IPv6Address(TAKEN))),
            *(301, "ROUTE_EXISTS"),
            id="the prefix comes before its address",
        ),
        pytest.param(
            lambda m: m.create_prefix(VM1, net("10.2.0.0/24"), UnderlayAddress(IPv6Address(TAKEN))),
            *(401, "VNF_INSERT"),
            id="a taken underlay address for a prefix",
        ),
        pytest.param(lambda m: m.delete_prefix(NOBODY, net("10.1.0.0/24")), 205, "NO_VM", id="delete prefix of nobody"),
        pytest.param(
            lambda m: m.delete_prefix(VM1, net("10.9.0.0/24")), 302, "ROUTE_NOT_FOUND", id="delete an unknown prefix"
        ),
        pytest.param(
            lambda m: m.delete_prefix(VM1, net("10.0.0.2/32")),
            *(304, "ROUTE_BAD_PORT"),
            id="delete an external route as prefix",
        ),
        pytest.param(
            lambda m: m.delete_prefix(VM1, net("10.0.0.1/32")),
            *(201, "NOT_FOUND"),
            id="delete the interface's own address as prefix",
        ),
        # Routes
        pytest.param(lambda m: m.routes(Vni(999)), 206, "NO_VNI", id="routes of an unknown VNI"),
        pytest.param(
            lambda m: m.create_route(Vni(999), numbered(net("10.0.0.2/32")), HOP),
            206,
            "NO_VNI",
            id="route in an unknown VNI",
        ),
        pytest.param(
            lambda m: m.create_route(VNI, numbered(net("10.0.0.2/32")), HOP),
            301,
            "ROUTE_EXISTS",
            id="a route exists already",
        ),
        pytest.param(
            lambda m: m.create_route(VNI, numbered(net("10.0.0.1/32")), HOP),
            *(301, "ROUTE_EXISTS"),
            id="an interface has the address already",
        ),
        pytest.param(
            lambda m: m.delete_route(Vni(999), numbered(net("10.0.0.2/32"))),
            206,
            "NO_VNI",
            id="delete in an unknown VNI",
        ),
        pytest.param(
            lambda m: m.delete_route(VNI, numbered(net("10.0.0.9/32"))),
            302,
            "ROUTE_NOT_FOUND",
            id="delete an unknown route",
        ),
        pytest.param(
            lambda m: m.delete_route(VNI, numbered(net("10.0.0.1/32"))),
            *(304, "ROUTE_BAD_PORT"),
            id="delete an interface's address as route",
        ),
        pytest.param(
            lambda m: m.delete_route(VNI, numbered(net("10.1.0.0/24"))),
            *(304, "ROUTE_BAD_PORT"),
            id="delete an alias prefix as route",
        ),
    ],
)
def test_refusals(call: Callable[[Model], object], code: int, name: str) -> None:
    made = populated()
    before = content(made)
    with pytest.raises(Refusal) as refused:
        call(made)
    assert (refused.value.code, refused.value.name) == (code, name)
    assert content(made) == before, "nothing is half done"


@pytest.mark.parametrize(
    ("limits", "call", "code"),
    [
        pytest.param(Limits(underlay=1), lambda m: m.create_interface(nic("b", "net_tap3", 9)), 401, id="addresses"),
        pytest.param(Limits(vnis=1), lambda m: m.create_interface(nic("b", "net_tap3", 9)), 361, id="VNIs"),
        pytest.param(Limits(routes=1), lambda m: m.create_interface(nic("b", "net_tap3", 9)), 303, id="host routes"),
        pytest.param(
            Limits(routes=1), lambda m: m.create_route(VNI, numbered(net("10.9.0.0/16")), HOP), 303, id="routes"
        ),
        pytest.param(Limits(routes=1), lambda m: m.create_prefix(VM1, net("10.9.0.0/16"), None), 303, id="prefixes"),
    ],
)
def test_limits(limits: Limits, call: Callable[[Model], object], code: int) -> None:
    made = model(limits)
    made.create_interface(nic("vm1"))
    with pytest.raises(Refusal) as refused:
        call(made)
    assert refused.value.code == code


def test_full_ipv4_table_leaves_room_for_ipv6() -> None:
    made = model(Limits(routes=1))
    made.create_interface(nic("vm1"))
    made.create_route(VNI, numbered(net("2001:db8::/64")), HOP)


def test_same_address_in_two_vnis() -> None:
    made = model()
    made.create_interface(nic("a", "net_tap2", 100))
    made.create_interface(nic("b", "net_tap3", 200))
    assert [each.vni for each in made.interfaces()] == [100, 200]


def test_interfaces_come_in_the_order_of_their_devices() -> None:
    made = model()
    made.create_interface(nic("a", "net_tap4", ipv4="10.0.0.4"))
    made.create_interface(nic("b", "net_tap2", ipv4="10.0.0.2"))
    assert [each.id for each in made.interfaces()] == ["b", "a"]


def test_deleting_an_interface_takes_its_prefixes_along() -> None:
    made = populated()
    made.create_interface(nic("vm3", "net_tap4", ipv4="10.0.0.3"))
    gone = list(one_by_one(made.delete_interface(VM1)))
    assert made.uses(VNI), "vm3 is still there"
    assert [str(prefix) for _, prefix, _ in made.routes(VNI)] == ["10.0.0.2/32"]
    assert RouteKey(VNI, net("10.1.0.0/24")) in {change.key for change in gone}
    assert FunctionKey(UnderlayAddress(IPv6Address(TAKEN))) in {change.key for change in gone}


def test_the_last_interface_of_a_vni_takes_its_routes_along() -> None:
    made = populated()
    made.delete_interface(VM1)
    assert not made.uses(VNI)
    assert made.uses(Vni(200))


def test_a_deleted_port_number_is_used_again_but_not_its_underlay_address() -> None:
    made = model()
    first, _ = made.create_interface(nic("a"))
    made.delete_interface(InterfaceId("a"))
    second, _ = made.create_interface(nic("b"))
    assert second.port == first.port == 0
    assert second.underlay != first.underlay


@pytest.mark.parametrize(
    "reset", [pytest.param("reset_vni", id="ResetVni"), pytest.param("initialize", id="Initialize")]
)
def test_reset_leaves_the_interfaces_own_addresses(reset: str) -> None:
    made = populated()
    if reset == "initialize":
        made.initialize()
    else:
        made.reset_vni(VNI)
    left = {change.key: change.after for change in content(made) if isinstance(change.key, RouteKey)}
    assert left[RouteKey(VNI, net("10.0.0.1/32"))] == LocalHop(PortNumber(0))
    assert [key for key in left if key.vni == VNI] == [RouteKey(VNI, net("10.0.0.1/32"))]
    assert made.prefixes(VM1) == []
    assert {each.id for each in made.interfaces()} == {"vm1", "vm2"}


def test_reset_of_an_unknown_vni_changes_nothing() -> None:
    assert populated().reset_vni(Vni(999)) == []


def test_routes_of_vni_zero_are_those_of_all() -> None:
    made = populated()
    made.create_route(Vni(200), numbered(net("2001:db8::2/128")), HOP)
    assert [(vni, str(prefix)) for vni, prefix, _ in made.routes(Vni(0))] == [
        (100, "10.0.0.2/32"),
        (200, "2001:db8::2/128"),
    ]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.create_interface(nic("n", "net_tap4", 300))[1], id="create interface"),
        pytest.param(lambda m: m.delete_interface(VM1), id="delete interface"),
        pytest.param(lambda m: m.create_prefix(VM1, net("10.2.0.0/24"), None)[1], id="create prefix"),
        pytest.param(lambda m: m.delete_prefix(VM1, net("10.1.0.0/24")), id="delete prefix"),
        pytest.param(lambda m: m.create_route(VNI, numbered(net("0.0.0.0/0")), HOP), id="create route"),
        pytest.param(lambda m: m.delete_route(VNI, numbered(net("10.0.0.2/32"))), id="delete route"),
        pytest.param(lambda m: m.reset_vni(VNI), id="reset VNI"),
        pytest.param(lambda m: m.initialize(), id="initialize"),
    ],
)
def test_undo(call: Callable[[Model], list[object]]) -> None:
    made = populated()
    before = content(made)
    changes = call(made)
    assert content(made) != before
    made.undo(changes)  # type: ignore[arg-type]
    assert content(made) == before
    assert made.routes_by_vni() == populated().routes_by_vni()
