"""Random calls: the engine has always what the model says, and a failed change leaves no trace."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.dpservice.dataplane import Dataplane, EngineFailed
from services.dpservice.engine.memory import MemoryEngine
from services.dpservice.guest.dhcp import GuestServices
from services.dpservice.journal import Journal
from services.dpservice.model.errors import Refusal
from services.dpservice.model.rows import AnyChange, InterfaceId, Rows, Vni, apply_to
from services.dpservice.model.state import Limits, Model
from services.dpservice.model.view import PacketView
from tests.unit.dpservice.builders import DEVICES, HOP, model, net, nic

SERVICES = GuestServices()
NAMES, VNIS = st.sampled_from(["a", "b", "c"]), st.sampled_from([0, 100, 200])
PREFIXES = st.sampled_from(["10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/8", "0.0.0.0/0", "2001:db8::1/128", "::/0"])
LIMITS = Limits(routes=6, underlay=4, vnis=2)


class FailingEngine(MemoryEngine):
    """Fails at a change when told to; whatever it did then has to be taken back."""

    fail = False

    def apply(self, changes: list[AnyChange]) -> None:  # type: ignore[override]
        if self.fail and changes:
            self.fail = False
            super().apply(changes)  # the change arrives, only the answer is an error
            raise OSError(12, "no memory for a map entry")
        super().apply(changes)


def view(made: Model) -> Rows:
    rows: Rows = {}
    apply_to(rows, PacketView(made.tables, SERVICES).follow(list(made.rows())))
    return rows


class Calls(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.jsonl"
        self.model, self.engine = model(LIMITS), FailingEngine()
        self.dataplane = Dataplane(self.model, self.engine, Journal(self.path), SERVICES)
        self.dataplane.start()

    def teardown(self) -> None:
        self.folder.cleanup()

    def attempt(self, mutate: object) -> None:
        before = view(self.model)
        try:
            self.dataplane.change(mutate)  # type: ignore[arg-type]
        except (Refusal, EngineFailed):
            assert view(self.model) == before

    @rule(name=NAMES, device=st.sampled_from([*DEVICES, "pf0"]), vni=VNIS, last=st.integers(1, 3), six=st.booleans())
    def create(self, name: str, device: str, vni: int, last: int, six: bool) -> None:
        wanted = nic(name, device, vni, f"10.0.0.{last}", f"2001:db8::{last}" if six else "")
        self.attempt(lambda m: m.create_interface(wanted))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.attempt(lambda m: (None, m.delete_interface(InterfaceId(name))))

    @rule(name=NAMES, prefix=PREFIXES)
    def alias(self, name: str, prefix: str) -> None:
        self.attempt(lambda m: m.create_prefix(InterfaceId(name), net(prefix), None))

    @rule(name=NAMES, prefix=PREFIXES)
    def unalias(self, name: str, prefix: str) -> None:
        self.attempt(lambda m: (None, m.delete_prefix(InterfaceId(name), net(prefix))))

    @rule(vni=VNIS, prefix=PREFIXES)
    def route(self, vni: int, prefix: str) -> None:
        self.attempt(lambda m: (None, m.create_route(Vni(vni), net(prefix), HOP)))

    @rule(vni=VNIS, prefix=PREFIXES)
    def unroute(self, vni: int, prefix: str) -> None:
        self.attempt(lambda m: (None, m.delete_route(Vni(vni), net(prefix))))

    @rule(vni=VNIS)
    def reset(self, vni: int) -> None:
        self.attempt(lambda m: (None, m.reset_vni(Vni(vni))))

    @rule()
    def initialize(self) -> None:
        self.attempt(lambda m: (None, m.initialize()))

    @rule()
    def break_engine(self) -> None:
        self.engine.fail = True

    @rule()
    def restart(self) -> None:
        """A new process over the same journal and the same packets."""
        uuid, before, counter = self.dataplane.uuid, view(self.model), self.model.allocator.counter
        initialized = self.model.initialized
        self.model = model(LIMITS)
        self.engine.fail = False
        self.dataplane = Dataplane(self.model, self.engine, Journal(self.path), SERVICES)
        self.dataplane.start()
        assert (self.dataplane.uuid, self.model.initialized) == (uuid, initialized)
        assert self.model.allocator.counter == counter
        assert view(self.model) == before

    @invariant()
    def engine_follows(self) -> None:
        assert self.engine.read_back() == view(self.model)

    @invariant()
    def counts_are_right(self) -> None:
        routes = sum(self.model.routes_by_vni().values())
        assert routes == sum(self.model.tables.route_count.values())


Calls.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestCalls = Calls.TestCase
