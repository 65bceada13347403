"""Next-hop sets: which one is programmed, and in which order writes come."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.metalnet.model.overlay import InterfaceId, Prefix, UnderlayAddress
from services.metalnet.model.route_table import RouteTable, RouteWrite

NET = ip_network("10.0.0.1/32")
OTHER = ip_network("10.0.0.2/32")
DEFAULT = ip_network("0.0.0.0/0")
NIC = InterfaceId("nic")


def hop(number: int) -> UnderlayAddress:
    return UnderlayAddress(IPv6Address(f"fc00::{number:x}"))


def drain(table: RouteTable) -> list[tuple[Prefix, UnderlayAddress | None, UnderlayAddress | None]]:
    writes = table.take(100)
    for write in writes:
        table.wrote(write)
    return [(write.prefix, write.before, write.after) for write in writes]


def active(*steps: Callable[[RouteTable], None]) -> RouteTable:
    """An active table after the steps, each of them written."""
    table = RouteTable()
    table.activate({}, keep_unknown=False)
    for step in steps:
        step(table)
        drain(table)
    return table


def learn(prefix: Prefix, number: int) -> Callable[[RouteTable], None]:
    return lambda table: table.learn(prefix, hop(number))


def forget(prefix: Prefix, number: int) -> Callable[[RouteTable], None]:
    return lambda table: table.forget(prefix, hop(number))


@pytest.mark.parametrize(
    ("before", "step", "writes"),
    [
        pytest.param([], learn(NET, 1), [(NET, None, hop(1))], id="the first next hop is programmed"),
        pytest.param([learn(NET, 1)], learn(NET, 1), [], id="the same again changes nothing"),
        pytest.param([learn(NET, 1)], learn(NET, 2), [], id="a higher one waits"),
        pytest.param([learn(NET, 2)], learn(NET, 1), [(NET, hop(2), hop(1))], id="a lower one takes over"),
        pytest.param(
            [learn(NET, 1), learn(NET, 2)], forget(NET, 1), [(NET, hop(1), hop(2))], id="a lost one falls back"
        ),
        pytest.param([learn(NET, 1), learn(NET, 2)], forget(NET, 2), [], id="a waiting one goes unnoticed"),
        pytest.param([learn(NET, 1)], forget(NET, 1), [(NET, hop(1), None)], id="the last one takes the route along"),
        pytest.param([], forget(NET, 1), [], id="an unknown one is no matter"),
        pytest.param(
            [learn(NET, 1)],
            lambda table: table.own(NIC, [NET]),
            [(NET, hop(1), None)],
            id="an interface of this host displaces the route",
        ),
        pytest.param(
            [learn(NET, 1), lambda table: table.own(NIC, [NET])],
            lambda table: table.disown(NIC),
            [(NET, None, hop(1))],
            id="which comes back with its end",
        ),
        pytest.param(
            [],
            lambda table: table.set_defaults([DEFAULT], frozenset({hop(8), hop(9)})),
            [(DEFAULT, None, hop(8))],
            id="the default router is a route",
        ),
        pytest.param(
            [lambda table: table.set_defaults([DEFAULT], frozenset({hop(8), hop(9)}))],
            lambda table: table.set_defaults([DEFAULT], frozenset({hop(9)})),
            [(DEFAULT, hop(8), hop(9))],
            id="replaced by the next one",
        ),
        pytest.param(
            [lambda table: table.set_defaults([DEFAULT], frozenset({hop(8)}))],
            lambda table: table.set_defaults([DEFAULT], frozenset()),
            [(DEFAULT, hop(8), None)],
            id="and gone with the last one",
        ),
        pytest.param(
            [lambda table: table.set_defaults([DEFAULT], frozenset({hop(1)}))],
            learn(DEFAULT, 5),
            [(DEFAULT, hop(1), hop(5))],
            id="a default route of the network itself wins",
        ),
        pytest.param(
            [learn(NET, 1)],
            lambda table: table.activate({}, keep_unknown=False),
            [(NET, None, hop(1))],
            id="a lost state is written again",
        ),
        pytest.param(
            [learn(NET, 1)],
            lambda table: table.activate({NET: hop(3), OTHER: hop(4)}, keep_unknown=False),
            [(NET, hop(3), hop(1)), (OTHER, hop(4), None)],
            id="what differs is repaired",
        ),
        pytest.param(
            [learn(NET, 1)],
            lambda table: table.activate({NET: hop(1), OTHER: hop(4)}, keep_unknown=True),
            [],
            id="what nobody announced yet is kept for a while",
        ),
        pytest.param(
            [lambda table: table.activate({OTHER: hop(4)}, keep_unknown=True)],
            lambda table: table.sweep(),
            [(OTHER, hop(4), None)],
            id="and swept then",
        ),
        pytest.param(
            [lambda table: table.activate({OTHER: hop(4)}, keep_unknown=True)],
            learn(OTHER, 5),
            [(OTHER, hop(4), hop(5))],
            id="or replaced by the first announcement",
        ),
        pytest.param(
            [learn(NET, 1), RouteTable.deactivate], learn(NET, 2), [], id="without the network nothing is written"
        ),
    ],
)
def test_writes(
    before: list[Callable[[RouteTable], None]],
    step: Callable[[RouteTable], None],
    writes: list[tuple[Prefix, UnderlayAddress | None, UnderlayAddress | None]],
) -> None:
    table = active(*before)
    step(table)
    assert sorted(drain(table), key=lambda write: str(write[0])) == writes


def test_a_failed_write_is_due_again_from_where_it_stopped() -> None:
    table = active(learn(NET, 2))
    table.learn(NET, hop(1))
    [write] = table.take(1)
    table.failed(write, None)  # deleted, not yet created
    assert drain(table) == [(NET, None, hop(1))]


def test_room_is_made_at_once() -> None:
    table = active(learn(NET, 1), learn(OTHER, 2))
    table.own(NIC, [NET])
    assert table.take_only([NET]) == [RouteWrite(NET, hop(1), None)]
    assert table.pending == 0


def test_without_the_network_nothing_is_pending() -> None:
    table = active(lambda table: table.own(NIC, [NET]), RouteTable.deactivate)
    table.disown(NIC)
    assert table.pending == 0
    assert table.take(1) == []


class Machine(RuleBasedStateMachine):
    """Whatever is learned and fails in whatever order: once all is written, the data plane has the lowest next hops."""

    prefixes = st.sampled_from([ip_network(f"10.0.0.{number}/32") for number in range(3)])
    hops = st.integers(1, 3).map(hop)

    def __init__(self) -> None:
        super().__init__()
        self.table = RouteTable()
        self.learned: dict[Prefix, set[UnderlayAddress]] = {}
        self.owned: set[Prefix] = set()
        self.data_plane: dict[Prefix, UnderlayAddress] = {}
        self.table.activate({}, keep_unknown=False)

    @rule(prefix=prefixes, hop=hops)
    def learn(self, prefix: Prefix, hop: UnderlayAddress) -> None:
        self.table.learn(prefix, hop)
        self.learned.setdefault(prefix, set()).add(hop)

    @rule(prefix=prefixes, hop=hops)
    def forget(self, prefix: Prefix, hop: UnderlayAddress) -> None:
        self.table.forget(prefix, hop)
        self.learned.get(prefix, set()).discard(hop)

    @rule(owned=st.sets(prefixes))
    def own(self, owned: set[Prefix]) -> None:
        self.table.own(NIC, owned)
        self.owned = owned

    @rule(lost=st.booleans())
    def look(self, lost: bool) -> None:
        if lost:
            self.data_plane.clear()
        self.table.activate(self.data_plane, keep_unknown=False)

    @rule(fails=st.sampled_from(["", "", "delete", "create"]))
    def write_one(self, fails: str) -> None:
        for write in self.table.take(1):
            self.write(write, fails)

    def write(self, write: RouteWrite, fails: str) -> None:
        assert self.data_plane.get(write.prefix) == write.before
        if write.before is not None:
            if fails == "delete":
                self.table.failed(write, write.before)
                return
            del self.data_plane[write.prefix]
        if write.after is not None:
            if fails == "create":
                self.table.failed(write, None)
                return
            self.data_plane[write.prefix] = write.after
        self.table.wrote(write)

    @invariant()
    def knows_what_is_there(self) -> None:
        assert dict(self.table.programmed) == self.data_plane

    def teardown(self) -> None:
        while writes := self.table.take(2):
            for write in writes:
                self.write(write, "")
        wanted = {prefix: min(hops) for prefix, hops in self.learned.items() if hops and prefix not in self.owned}
        assert self.data_plane == wanted


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
