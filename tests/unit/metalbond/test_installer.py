"""What the kernel installer wants, plans and encodes."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.metalbond.client import Change, RouteChange
from services.metalbond.installer import messages
from services.metalbond.installer.desired import Desired, Hops, Prefix
from services.metalbond.installer.install import decapsulated
from services.metalbond.installer.messages import Codec, Encapsulation
from services.metalbond.installer.plan import (
    AddGroup,
    AddHop,
    DeleteObject,
    DeleteRoute,
    KernelState,
    Operation,
    Plan,
    SetRoute,
)
from services.metalbond.routes import NextHop, NextHopType, Route, Vni

IDS = range(100, 200)
NOTHING = KernelState({}, {}, {})
PREFIXES = [Prefix(10, ip_network(text)) for text in ("10.0.0.1/32", "10.0.0.2/32", "2001:db8::1/128")]
HOPS = [IPv6Address(f"fc00::{number}") for number in range(1, 5)]


class ModelKernel:
    """Does what the kernel does with operations, as strictly."""

    def __init__(self, found: KernelState = NOTHING) -> None:
        self.routes = dict(found.routes)
        self.hops, self.groups = dict(found.hops), dict(found.groups)

    def do(self, operations: list[Operation]) -> None:
        for operation in operations:
            match operation:
                case AddHop(number, address):
                    assert number in IDS
                    assert number not in self.groups
                    self.hops[number] = address
                case AddGroup(number, members):
                    assert number in IDS
                    assert number not in self.hops
                    assert all(member in self.hops for member in members)
                    self.groups[number] = members
                case SetRoute(prefix, via):
                    assert via in self.groups or via in self.hops
                    self.routes[prefix] = via
                case DeleteRoute(prefix):
                    del self.routes[prefix]
                case DeleteObject(number):
                    assert number not in self.routes.values(), "the kernel would drop the routes as well"
                    assert not any(number in members for members in self.groups.values())
                    assert self.hops.pop(number, None) or self.groups.pop(number)

    def hops_of(self, prefix: Prefix) -> Hops:
        via = self.routes.get(prefix)
        if via is None:
            return ()
        return tuple(self.hops[member] for member in self.groups[via]) if via in self.groups else (self.hops[via],)

    @property
    def state(self) -> KernelState:
        return KernelState(dict(self.routes), dict(self.hops), dict(self.groups))


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from(PREFIXES), st.sets(st.sampled_from(HOPS))), max_size=4), max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_the_kernel_ends_with_the_hops_that_are_wanted_and_nothing_else(
    rounds: list[list[tuple[Prefix, set[IPv6Address]]]], restarts: set[int]
) -> None:
    kernel, wanted = ModelKernel(), dict[Prefix, Hops]()
    plan = Plan(kernel.state, IDS)
    for number, changes in enumerate(rounds):
        if number in restarts:
            plan = Plan(kernel.state, IDS)
        for prefix, hops in changes:
            wanted[prefix] = tuple(sorted(hops))
        operations = plan.change([(prefix, wanted[prefix]) for prefix, _ in changes])
        assert not [each for each in operations if isinstance(each, DeleteRoute) and wanted[each.prefix]]
        kernel.do(operations)
        kernel.do(plan.tidy())
        assert {prefix: kernel.hops_of(prefix) for prefix in wanted} == wanted
    needed = {hop for hops in wanted.values() for hop in hops}
    assert set(kernel.hops.values()) == needed
    assert len(kernel.groups) == len({hops for hops in wanted.values() if len(hops) > 1})


def test_routes_of_another_shape_are_replaced_or_removed() -> None:
    found = KernelState({PREFIXES[0]: None, PREFIXES[1]: 7, PREFIXES[2]: None}, {}, {})
    plan = Plan(found, IDS)
    assert plan.prefixes == set(PREFIXES)
    wanted = [(PREFIXES[0], (HOPS[0],)), (PREFIXES[1], ()), (PREFIXES[2], ())]
    assert plan.change(wanted) == [
        AddHop(100, HOPS[0]),
        SetRoute(PREFIXES[0], 100),
        DeleteRoute(PREFIXES[1]),
        DeleteRoute(PREFIXES[2]),
    ]


def test_objects_that_no_route_needs_go_and_ids_of_others_stay_theirs() -> None:
    found = KernelState({}, {100: HOPS[0], 101: HOPS[0]}, {102: (100, 999)}, taken=frozenset({103}))
    plan = Plan(found, IDS)
    [add_hop, add_group, _] = plan.change([(PREFIXES[0], (HOPS[0], HOPS[1]))])
    assert isinstance(add_hop, AddHop)
    assert add_hop.id == 104
    assert isinstance(add_group, AddGroup)
    assert set(plan.tidy()) == {DeleteObject(102), DeleteObject(({100, 101} - set(add_group.members)).pop())}


def test_more_objects_than_ids() -> None:
    with pytest.raises(RuntimeError, match="ids"):
        Plan(NOTHING, range(2)).change([(PREFIXES[0], (HOPS[0], HOPS[1]))])


def _change(kind: Change, hop: NextHop, destination: str = "10.0.0.1/32", vni: int = 1) -> RouteChange:
    return RouteChange(kind, Route(Vni(vni), ip_network(destination), hop))


def test_hops_that_differ_in_what_the_kernel_does_not_know_are_one() -> None:
    desired = Desired({Vni(1): 10}, ipv4_only=False)
    address = ip_address("fc00::1")
    slices = [NextHop(address, NextHopType.NAT, (first, first + 1023)) for first in (1024, 2048)]
    for hop in (*slices, NextHop(address), NextHop(ip_address("fc00::2"))):
        assert desired.apply(_change(Change.ADDED, hop)) == PREFIXES[0]
    assert desired.hops(PREFIXES[0]) == (HOPS[0], HOPS[1])
    for hop in slices:
        desired.apply(_change(Change.REMOVED, hop))
    assert desired.hops(PREFIXES[0]) == (HOPS[0], HOPS[1])
    desired.apply(_change(Change.REMOVED, NextHop(address)))
    assert desired.hops(PREFIXES[0]) == (HOPS[1],)
    desired.apply(_change(Change.REMOVED, NextHop(ip_address("fc00::2"))))
    assert (desired.hops(PREFIXES[0]), desired.prefixes) == ((), set())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_change(Change.ADDED, NextHop(HOPS[0]), vni=2), id="VNI without a table"),
        pytest.param(_change(Change.ADDED, NextHop(HOPS[0]), "2001:db8::1/128"), id="IPv6 with IPv4 only"),
        pytest.param(_change(Change.ADDED, NextHop(ip_address("192.0.2.1"))), id="IPv4 underlay"),
    ],
)
def test_what_does_not_concern_the_kernel(change: RouteChange) -> None:
    desired = Desired({Vni(1): 10}, ipv4_only=True)
    assert desired.apply(change) is None
    assert not desired.prefixes


@pytest.mark.parametrize("table", [10, 254, 100_000])
@pytest.mark.parametrize("destination", ["0.0.0.0/0", "10.0.0.0/24", "::/0", "2001:db8::/48"])
def test_routes_are_read_as_they_were_written(table: int, destination: str) -> None:
    codec = Codec(3, Encapsulation.SEG6)
    prefix = Prefix(table, ip_network(destination))
    [(kind, sequence, body)] = messages.messages(codec.encode(SetRoute(prefix, 77), 5))
    assert (kind, sequence) == (messages.NEW_ROUTE, 5)
    assert codec.decode_route(body) == (prefix, 77)


@pytest.mark.parametrize("encapsulation", Encapsulation)
def test_objects_are_read_as_they_were_written(encapsulation: Encapsulation) -> None:
    codec = Codec(3, encapsulation)
    for operation, what in ((AddHop(7, HOPS[0]), HOPS[0]), (AddGroup(9, (7, 8)), (7, 8))):
        [(_, _, body)] = messages.messages(codec.encode(operation, 5))
        assert codec.decode_object(body) == (operation.id, what)


def test_messages_as_the_kernel_expects_them() -> None:
    """Written by hand from the headers: linux/rtnetlink.h, linux/nexthop.h, linux/seg6.h, linux/seg6_iptunnel.h."""
    codec = Codec(3, Encapsulation.SEG6)
    frame = codec.encode(SetRoute(PREFIXES[0], 100), 1)
    header = struct.pack("=IHHII", len(frame), 24, 0x501, 1, 0)
    attributes = bytes.fromhex("0800 0100 0a000001 0800 0f00 0a000000 0800 1e00 64000000")
    assert frame == header + bytes([2, 32, 0, 0, 10, 254, 0, 1]) + bytes(4) + attributes
    frame = codec.encode(AddHop(100, HOPS[0]), 2)
    header = struct.pack("=IHHII", len(frame), 104, 0x501, 2, 0)
    attributes = bytes.fromhex("0800 0100 64000000 0800 0500 03000000 0600 0700 0500 0000")
    attributes += bytes.fromhex("2400 0880 2000 0100 03000000 00 02 04 00 00 00 0000") + HOPS[0].packed
    assert frame == header + bytes([10, 0, 254, 0]) + bytes(4) + attributes


def test_an_address_is_unpacked_as_one_version() -> None:
    assert decapsulated(iter([(HOPS[0], 4), (HOPS[0], 4), (HOPS[1], 6)])) == {HOPS[0]: 4, HOPS[1]: 6}
    with pytest.raises(ValueError, match="announce two addresses"):
        decapsulated(iter([(HOPS[0], 4), (HOPS[0], 6)]))


def test_another_device_s_objects_are_made_anew() -> None:
    [(_, _, body)] = messages.messages(Codec(3, Encapsulation.SEG6).encode(AddHop(7, HOPS[0]), 5))
    for other in (Codec(4, Encapsulation.SEG6), Codec(3, Encapsulation.IP6)):
        assert other.decode_object(body) == (7, ())
    found = KernelState({PREFIXES[0]: 107, PREFIXES[1]: 107}, {}, {107: ()})
    plan = Plan(found, IDS)
    assert plan.change([(PREFIXES[0], (HOPS[0],))]) == [AddHop(100, HOPS[0]), SetRoute(PREFIXES[0], 100)]
    assert plan.tidy() == [], "a route leads to it"
    plan.change([(PREFIXES[1], ())])
    assert plan.tidy() == [DeleteObject(107)]
