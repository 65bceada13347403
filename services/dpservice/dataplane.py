"""The data plane as one thing: rules, journal and engine, changed together or not at all.

A call asks the model, writes the journal, lets the engine carry it out, and only then is answered; when the engine
fails, model and journal take the change back. One lock serialises calls, so that packets see one change at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import uuid4

from services.common.logs import get_logger
from services.dpservice.engine.interface import Engine
from services.dpservice.guest.dhcp import GuestServices
from services.dpservice.journal import Journal, Step, as_step
from services.dpservice.model.rows import Change, Rows, apply_to, difference, inverted, one_by_one
from services.dpservice.model.state import Model
from services.dpservice.model.view import packet_changes

log = get_logger(__name__)
T = TypeVar("T")


class EngineFailed(Exception):
    """Journal or engine did not carry out a change; nothing of it remains."""


class Dataplane:
    """What the gRPC door talks to."""

    def __init__(self, model: Model, engine: Engine, journal: Journal, services: GuestServices) -> None:
        self._model, self._engine, self._journal, self._services = model, engine, journal, services
        self._lock = threading.Lock()
        self.allocator = model.allocator
        self.uuid = ""

    def start(self, *, cold: bool = False) -> None:
        """Takes over what an earlier process left, or begins afresh under a new uuid.

        Journal and packets must belong to the same uuid; packets that differ from the journal are brought in line.
        Raises JournalError, OSError.
        """
        recorded, steps = ("", []) if cold else self._journal.read()
        if recorded and recorded == self._engine.generation():
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
        wanted: Rows = {}
        apply_to(wanted, packet_changes(self._model.rows(), self._services))
        repairs = difference(self._engine.read_back(), wanted)
        self._engine.apply(repairs)
        log.info("state adopted", uuid=uuid, rows=len(wanted), repaired=len(repairs))

    def read(self, question: Callable[[Model], T]) -> T:
        """Asks the model, between two changes."""
        with self._lock:
            return question(self._model)

    def change(self, mutate: Callable[[Model], tuple[T, list[Change]]]) -> T:
        """Changes the model and the packets. Raises the model's Refusal, or EngineFailed."""
        with self._lock:
            answer, changes = mutate(self._model)
            try:
                self._record(changes)
                self._engine.apply(packet_changes(changes, self._services))
            except OSError as error:
                self._take_back(changes)
                raise EngineFailed(str(error)) from error
            if self._journal.wants_compaction:
                self._compact()
            return answer

    def _take_back(self, changes: Sequence[Change]) -> None:
        self._model.undo(changes)
        try:
            self._record(list(one_by_one(inverted(changes))))
            self._engine.apply(packet_changes(inverted(changes), self._services))
        except OSError as error:
            log.error("change could not be taken back, a restart repairs it", error=str(error))

    def _record(self, changes: Sequence[Change]) -> None:
        self._journal.append(Step(changes, self._model.allocator.counter, self._model.initialized))

    def _compact(self) -> None:
        step = as_step(self._model.rows(), self._model.allocator.counter, initialized=self._model.initialized)
        self._journal.rewrite(self.uuid, step)
