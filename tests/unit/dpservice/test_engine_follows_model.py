"""Random calls: the engine has always what the model says, a failed change leaves no trace, and a process that dies
between any two steps of a change leaves what its successor brings in line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.dpservice.dataplane import Dataplane, EngineFailed
from services.dpservice.engine.memory import MemoryEngine
from services.dpservice.guest.services import GuestServices
from services.dpservice.journal import Journal, Step
from services.dpservice.model.changes import AnyChange, RouteChanges, Rows, apply_to, inverted, numbered, route_number
from services.dpservice.model.errors import Refusal
from services.dpservice.model.flushes import Selector, flushes
from services.dpservice.model.keys import RouteKey
from services.dpservice.model.packet_rows import PacketCapture
from services.dpservice.model.rows import BalancerId, Direction, InterfaceId, RuleId, Vni
from services.dpservice.model.state import Limits, Model
from services.dpservice.model.underlay import UnderlayAddress
from services.dpservice.model.view import PacketView
from tests.unit.dpservice.builders import DEVICES, HOP, content, model, net, nic
from tests.unit.dpservice.test_model_services import balancer, capture, index_sizes
from tests.unit.dpservice.test_model_services import rule as new_rule

SERVICES = GuestServices()
NAMES, VNIS = st.sampled_from(["a", "b", "c"]), st.sampled_from([0, 100, 200])
PREFIXES = st.sampled_from(["10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/8", "0.0.0.0/0", "2001:db8::1/128", "::/0"])
PUBLICS = st.sampled_from([IPv4Address("45.86.6.1"), IPv4Address("45.86.6.2")])
TARGETS = st.sampled_from([IPv6Address("fc00:3::1"), IPv6Address("fc00:3::2")])
PORTS = st.sampled_from([(100, 200), (150, 300), (300, 301)])
OWNER = UnderlayAddress(IPv6Address("fc00:2::d000:1:0:9"))
LIMITS = Limits(routes=6, underlay=6, vnis=2, publics=2, neighbors=2, balancers=2, targets=1, rules=2)


class Killed(BaseException):
    """The process ends here."""


class FragileEngine(MemoryEngine):
    """Fails, or has its process die, at a step when told to; a failing step is done all the same."""

    fail: type[BaseException] | None = None
    at = ""

    def apply(self, changes: Sequence[AnyChange]) -> None:
        self._step("before apply")
        super().apply(changes)
        self._step("after apply")

    def flush(self, selectors: Sequence[Selector]) -> None:
        self._step("before flush")
        super().flush(selectors)

    def capture(self, wanted: PacketCapture | None) -> None:
        self._step("before capture")
        super().capture(wanted)

    def _step(self, name: str) -> None:
        if self.fail is not None and name == self.at:
            fail, self.fail = self.fail, None
            raise fail(12, "no memory for a map entry")


class FragileJournal(Journal):
    """Its process dies before or after a step is written."""

    at = ""

    def append(self, step: Step) -> None:
        if self.at == "before journal":
            raise Killed
        super().append(step)
        if self.at == "after journal":
            raise Killed


def view(made: Model) -> Rows:
    """What packets should follow, derived from nothing but the model's rows."""
    rows = PacketView(made.tables, SERVICES).start()
    for (vni, version), hops in made.tables.routes.items():
        apply_to(rows, [RouteChanges(vni, version, {}, hops)])
    return rows


class Calls(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.jsonl"
        self.model, self.engine = model(LIMITS), FragileEngine()
        self.dataplane = Dataplane(self.model, self.engine, Journal(self.path), SERVICES)
        self.dataplane.start()

    def teardown(self) -> None:
        self.folder.cleanup()

    def attempt(self, mutate: Callable[[Model], Any]) -> None:
        def checked(made: Model) -> tuple[None, list[AnyChange]]:
            before, indexes = content(made), index_sizes(made)
            answer = mutate(made)
            changes = answer if isinstance(answer, list) else answer[1]
            after = content(made)
            made.undo(changes)
            assert (content(made), index_sizes(made)) == (before, indexes), "undo restores exactly"
            made.restore(changes)
            assert content(made) == after
            return None, changes

        before = content(self.model)
        try:
            self.dataplane.change(checked)
        except (Refusal, EngineFailed):
            assert content(self.model) == before

    @rule(name=NAMES, device=st.sampled_from([*DEVICES, "pf0"]), vni=VNIS, last=st.integers(1, 3), six=st.booleans())
    def create(self, name: str, device: str, vni: int, last: int, six: bool) -> None:
        wanted = nic(name, device, vni, f"10.0.0.{last}", f"2001:db8::{last}" if six else "")
        self.attempt(lambda m: m.create_interface(wanted))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.attempt(lambda m: m.delete_interface(InterfaceId(name)))

    @rule(name=NAMES, prefix=PREFIXES, come=st.booleans(), balanced=st.booleans())
    def prefix(self, name: str, prefix: str, come: bool, balanced: bool) -> None:
        owner, wanted = InterfaceId(name), net(prefix)
        if balanced:
            self.attempt(
                lambda m: (
                    m.create_balancer_prefix(owner, wanted, None) if come else m.delete_balancer_prefix(owner, wanted)
                )
            )
        else:
            self.attempt(lambda m: m.create_prefix(owner, wanted, None) if come else m.delete_prefix(owner, wanted))

    @rule(vni=VNIS, prefix=PREFIXES, come=st.booleans())
    def route(self, vni: int, prefix: str, come: bool) -> None:
        wanted = net(prefix)
        self.attempt(
            lambda m: (
                m.create_route(Vni(vni), numbered(wanted), HOP) if come else m.delete_route(Vni(vni), numbered(wanted))
            )
        )

    @rule(vni=VNIS, added=st.sets(PREFIXES), removed=st.sets(PREFIXES))
    def routes(self, vni: int, added: set[str], removed: set[str]) -> None:
        fresh = {route_number(net(prefix)): HOP for prefix in added if ":" not in prefix}
        gone = [route_number(net(prefix)) for prefix in removed if ":" not in prefix]
        self.attempt(lambda m: m.apply_routes(Vni(vni), 4, gone, fresh))

    @rule(vni=VNIS)
    def reset(self, vni: int) -> None:
        self.attempt(lambda m: m.reset_vni(Vni(vni)))

    @rule()
    def initialize(self) -> None:
        self.attempt(lambda m: m.initialize())

    @rule(name=NAMES, address=PUBLICS, come=st.booleans())
    def vip(self, name: str, address: IPv4Address, come: bool) -> None:
        owner = InterfaceId(name)
        self.attempt(lambda m: m.create_vip(owner, address, None) if come else m.delete_vip(owner))

    @rule(name=NAMES, address=PUBLICS, ports=PORTS, come=st.booleans())
    def nat(self, name: str, address: IPv4Address, ports: tuple[int, int], come: bool) -> None:
        owner = InterfaceId(name)
        self.attempt(lambda m: m.create_nat(owner, address, *ports, None) if come else m.delete_nat(owner))

    @rule(vni=VNIS, address=PUBLICS, ports=PORTS, come=st.booleans())
    def neighbor(self, vni: int, address: IPv4Address, ports: tuple[int, int], come: bool) -> None:
        self.attempt(
            lambda m: (
                m.create_neighbor(Vni(vni), address, *ports, OWNER)
                if come
                else m.delete_neighbor(Vni(vni), address, *ports)
            )
        )

    @rule(name=NAMES, vni=VNIS, come=st.booleans())
    def balancer(self, name: str, vni: int, come: bool) -> None:
        self.attempt(lambda m: m.create_balancer(balancer(name, vni)) if come else m.delete_balancer(BalancerId(name)))

    @rule(name=NAMES, address=TARGETS, come=st.booleans())
    def balancer_target(self, name: str, address: IPv6Address, come: bool) -> None:
        wanted = BalancerId(name)
        self.attempt(lambda m: m.create_target(wanted, address) if come else m.delete_target(wanted, address))

    @rule(
        name=NAMES,
        rule_id=st.sampled_from("xyz"),
        direction=st.sampled_from(Direction),
        priority=st.integers(0, 2),
        come=st.booleans(),
    )
    def firewall(self, name: str, rule_id: str, direction: Direction, priority: int, come: bool) -> None:
        owner, wanted = InterfaceId(name), new_rule(rule_id, direction, priority=priority)
        self.attempt(lambda m: m.create_rule(owner, wanted) if come else m.delete_rule(owner, RuleId(rule_id)))

    @rule(name=NAMES, come=st.booleans())
    def capture(self, name: str, come: bool) -> None:
        self.attempt(lambda m: m.start_capture(capture(name, 1)) if come else m.stop_capture())

    @rule(step=st.sampled_from(["before apply", "after apply", "before flush", "before capture"]))
    def break_engine(self, step: str) -> None:
        self.engine.fail, self.engine.at = OSError, step

    @rule()
    def restart(self) -> None:
        """A new process over the same journal and the same packets."""
        uuid, before, counter = self.dataplane.uuid, content(self.model), self.model.allocator.counter
        initialized = self.model.initialized
        self.model = model(LIMITS)
        self.engine.fail = None
        self.dataplane = Dataplane(self.model, self.engine, Journal(self.path), SERVICES)
        self.dataplane.start()
        assert (self.dataplane.uuid, self.model.initialized) == (uuid, initialized)
        assert self.model.allocator.counter == counter
        assert content(self.model) == before

    @invariant()
    def engine_follows(self) -> None:
        assert self.engine.read_back() == view(self.model)
        assert self.engine.captured == PacketView(self.model.tables, SERVICES).capture()

    @invariant()
    def counts_are_right(self) -> None:
        tables = self.model.tables
        assert sum(self.model.routes_by_vni().values()) == sum(tables.route_count.values())
        assert {table[0] for table in tables.routes} <= tables.vni_users.keys()


Calls.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestCalls = Calls.TestCase


STEPS = ["before journal", "after journal", "before apply", "after apply", "before flush", "before capture"]
CHANGES: list[tuple[str, Callable[[Model], Any]]] = [
    ("an interface with everything goes", lambda m: m.delete_interface(InterfaceId("vm1"))),
    ("an interface comes", lambda m: m.create_interface(nic("n", "net_tap4", ipv4="10.0.0.4"))),
    ("VIP goes", lambda m: m.delete_vip(InterfaceId("vm1"))),
    ("NAT goes", lambda m: m.delete_nat(InterfaceId("vm1"))),
    ("a target goes", lambda m: m.delete_target(BalancerId("lb1"), IPv6Address("fc00:3::1"))),
    ("a rule comes", lambda m: m.create_rule(InterfaceId("vm2"), new_rule("r1"))),
    ("a route comes", lambda m: m.create_route(Vni(100), numbered(net("0.0.0.0/0")), HOP)),
    ("routes come", lambda m: m.apply_routes(Vni(100), 6, [], {0: HOP})),
    ("a capture ends", lambda m: m.stop_capture()),
    ("everything is reset", lambda m: m.initialize()),
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CHANGES])
def test_killed_between_steps(tmp_path: Path, step: str, call: Callable[[Model], Any]) -> None:
    engine, path = FragileEngine(), tmp_path / "journal.jsonl"
    first, journal = model(), FragileJournal(path)
    dataplane = Dataplane(first, engine, journal, SERVICES)
    dataplane.start()
    for setup in POPULATION:
        dataplane.change(lambda m, setup=setup: _answer(setup(m)))  # type: ignore[misc]
    before = content(first)
    journal.at = engine.at = step
    engine.fail = Killed
    try:
        dataplane.change(lambda m: _answer(call(m)))
    except Killed:
        pass
    journal.at, engine.fail = "", None
    journal.close()
    engine.flushed.clear()

    second = model()
    successor = Dataplane(second, engine, Journal(path), SERVICES)
    successor.start()
    assert successor.uuid == dataplane.uuid
    assert engine.read_back() == view(second)
    assert engine.captured == PacketView(second.tables, SERVICES).capture()
    reference = model()
    for setup in POPULATION:
        setup(reference)
    assert content(reference) == before
    _, changes = _answer(call(reference))
    assert content(second) == (before if step == "before journal" else content(reference))
    if step != "before journal":
        assert engine.flushed == flushes(changes, second.tables), "flows go with the change, whoever finishes it"


def test_a_journal_that_can_not_be_compacted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call was carried out, so that it must not fail; and what was written is read again."""
    monkeypatch.setattr("services.dpservice.journal.COMPACT_AFTER_ROWS", 12)
    engine, path, first = MemoryEngine(), tmp_path / "journal.jsonl", model()
    dataplane = Dataplane(first, engine, Journal(path), SERVICES)
    dataplane.start()
    (tmp_path / "journal.new").mkdir()  # in the way of whoever rewrites the journal
    for setup in POPULATION:
        dataplane.change(lambda m, setup=setup: _answer(setup(m)))  # type: ignore[misc]
    assert path.read_bytes().count(b"\n") == len(POPULATION) + 2
    (tmp_path / "journal.new").rmdir()
    again = model()
    Dataplane(again, engine, Journal(path), SERVICES).start()
    assert content(again) == content(first)


def _answer(answer: Any) -> tuple[Any, list[AnyChange]]:
    return (None, answer) if isinstance(answer, list) else answer


VM1 = InterfaceId("vm1")
POPULATION: list[Callable[[Model], Any]] = [
    lambda m: m.create_interface(nic("vm1")),
    lambda m: m.create_interface(nic("vm2", "net_tap3", ipv4="10.0.0.2")),
    lambda m: m.create_prefix(VM1, net("10.1.0.0/24"), None),
    lambda m: m.create_vip(VM1, IPv4Address("45.86.6.1"), None),
    lambda m: m.create_nat(VM1, IPv4Address("45.86.6.2"), 100, 200, None),
    lambda m: m.create_balancer_prefix(VM1, net("10.9.9.9/32"), None),
    lambda m: m.create_neighbor(Vni(100), IPv4Address("45.86.6.2"), 300, 400, OWNER),
    lambda m: m.create_balancer(balancer("lb1", address="10.9.9.9")),
    lambda m: m.create_target(BalancerId("lb1"), IPv6Address("fc00:3::1")),
    lambda m: m.create_rule(VM1, new_rule("r1")),
    lambda m: m.create_route(Vni(100), numbered(net("10.0.0.9/32")), HOP),
    lambda m: m.start_capture(capture("vm1", 0)),
]


def test_all_rows_survive_the_journal(tmp_path: Path) -> None:
    """Written one by one, and read again after a compaction."""
    engine, path, first = MemoryEngine(), tmp_path / "journal.jsonl", model()
    dataplane = Dataplane(first, engine, Journal(path), SERVICES)
    dataplane.start()
    for setup in POPULATION:
        dataplane.change(lambda m, setup=setup: _answer(setup(m)))  # type: ignore[misc]
    for _ in range(2):
        again = model()
        Dataplane(again, engine, Journal(path), SERVICES).start()
        assert content(again) == content(first)
        assert (again.neighbors(IPv4Address(0)), again.rules(VM1)) == (
            first.neighbors(IPv4Address(0)),
            first.rules(VM1),
        )


def test_packets_that_differ_from_the_journal_are_brought_in_line(tmp_path: Path) -> None:
    engine, path, first = MemoryEngine(), tmp_path / "journal.jsonl", model()
    dataplane = Dataplane(first, engine, Journal(path), SERVICES)
    dataplane.start()
    for setup in POPULATION:
        dataplane.change(lambda m, setup=setup: _answer(setup(m)))  # type: ignore[misc]
    wanted = engine.read_back()
    everything: list[AnyChange] = [RouteChanges(*table, {}, hops) for table, hops in engine.read_routes().items()]
    strange = RouteKey(Vni(7), net("10.0.0.0/8"))
    engine.apply([*inverted(everything), RouteChanges(Vni(7), 4, {}, {route_number(strange.prefix): HOP})])
    Dataplane(model(), engine, Journal(path), SERVICES).start()
    assert engine.read_back() == wanted
