"""The data plane as one thing: rules, journal and engine, changed together or not at all.

A call asks the model, writes the journal, lets the engine carry it out, forgets the flows that went with it, and only
then is answered; when journal or engine fails, model, journal and engine take the change back. One lock serialises
calls, so that packets see one change at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar
from uuid import uuid4

from services.common.logs import get_logger
from services.dpservice.engine.interface import Engine
from services.dpservice.guest.services import GuestServices
from services.dpservice.journal import Journal, Step, as_step
from services.dpservice.model.changes import AnyChange, Change, RouteChanges, difference, inverted, route_difference
from services.dpservice.model.flushes import flushes
from services.dpservice.model.keys import CaptureKey
from services.dpservice.model.state import Model
from services.dpservice.model.view import PacketView

log = get_logger(__name__)
T = TypeVar("T")

PATIENCE: Final = 0.005  # seconds
ROUTES_ALONE: Final = {RouteChanges}


class EngineFailed(Exception):
    """Journal or engine did not carry out a change; nothing of it remains."""


class Dataplane:
    """What the gRPC door talks to."""

    def __init__(self, model: Model, engine: Engine, journal: Journal, services: GuestServices) -> None:
        self._model, self._engine, self._journal = model, engine, journal
        self._view = PacketView(model.tables, services, enforce=not model.accept_only)
        self._lock = threading.Lock()
        self.allocator = model.allocator
        self.initializations = 0  # calls of Initialize: announcements begin anew with each
        self.uuid = ""

    def start(self, *, cold: bool = False) -> None:
        """Takes over what an earlier process left, or begins afresh under a new uuid.

        Journal and packets must belong to the same uuid; packets that differ from the journal are brought in line.
        Raises JournalError, OSError.
        """
        generation = "" if cold else self._engine.generation()
        recorded, steps = self._journal.read() if generation else ("", [])
        if generation and recorded == generation:
            self._adopt(recorded, steps)
        else:
            self.uuid = str(uuid4()).upper()
            self._engine.start_generation(self.uuid)
            log.info("state started afresh", uuid=self.uuid, asked=cold)
            self._compact()

    def _adopt(self, uuid: str, steps: Sequence[Step]) -> None:
        self.uuid = uuid
        for step in steps:
            self._model.restore(step.changes)
            self._model.initialized = step.initialized
            self._model.allocator.counter = step.counter
        wanted, routes = self._view.start(), self._model.tables.routes
        repairs = difference(self._engine.read_back(routes=False), wanted)
        repairs += route_difference(self._engine.read_routes(), routes)
        self._engine.apply(repairs)
        if steps:  # its process may have died before the flows went that went with it
            self._engine.flush(flushes(steps[-1].changes, self._model.tables))
        self._engine.capture(self._view.capture())
        count = len(wanted) + sum(len(hops) for hops in routes.values())
        self._journal.resume(count)
        self._compact_if_wanted()
        log.info("state adopted", uuid=uuid, rows=count, repaired=len(repairs))

    @property
    def initialized(self) -> bool:
        """Was Initialize ever called?"""
        return self._model.initialized

    def initialize(self) -> None:
        """What Initialize does. Raises EngineFailed."""
        self.change(lambda model: (None, model.initialize()))
        self.initializations += 1

    def busy(self) -> bool:
        """Would a call have to wait for long? One that ends at once is waited for: to change threads takes longer."""
        if not self._lock.acquire(timeout=PATIENCE):
            return True
        self._lock.release()
        return False

    def read(self, question: Callable[[Model], T]) -> T:
        """Asks the model, between two changes."""
        with self._lock:
            return question(self._model)

    def change(self, mutate: Callable[[Model], tuple[T, list[AnyChange]]]) -> T:
        """Changes the model and the packets. Raises the model's Refusal, or EngineFailed."""
        with self._lock:
            model = self._model
            initialized, counter = model.initialized, model.allocator.counter
            answer, changes = mutate(model)
            if not changes and model.initialized == initialized:
                return answer
            try:
                self._journal.append(Step(changes, model.allocator.counter, model.initialized))
                self._carry_out(changes)
            except Exception as error:
                model.initialized, model.allocator.counter = initialized, counter
                self._take_back(inverted(changes))
                if isinstance(error, OSError):
                    raise EngineFailed(str(error)) from error
                raise
            self._compact_if_wanted()
            return answer

    def _carry_out(self, changes: Sequence[AnyChange]) -> None:
        """Lets packets follow what the model has already. They see routes as they are, and forget no flows for them."""
        if set(map(type, changes)) == ROUTES_ALONE:
            self._engine.apply(changes)
            return
        self._engine.apply(self._view.follow(changes))
        selectors = flushes(changes, self._model.tables)
        if selectors:
            self._engine.flush(selectors)
        if any(isinstance(change, Change) and isinstance(change.key, CaptureKey) for change in changes):
            self._engine.capture(self._view.capture())

    def _take_back(self, changes: Sequence[AnyChange]) -> None:
        self._model.restore(changes)
        try:
            self._journal.take_back()
            self._carry_out(changes)
        except OSError as error:
            log.error("change could not be taken back, a restart repairs it", error=str(error))

    def _compact_if_wanted(self) -> None:
        """A full disk is no reason to fail: the long journal says the same."""
        if not self._journal.wants_compaction:
            return
        try:
            self._compact()
        except OSError as error:
            self._journal.postpone_compaction()
            log.warning("journal could not be compacted", error=str(error))

    def _compact(self) -> None:
        step = as_step(self._model.rows(), self._model.allocator.counter, initialized=self._model.initialized)
        self._journal.rewrite(self.uuid, step)
