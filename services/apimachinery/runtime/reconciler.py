"""Reconcilers: level-triggered, idempotent, one key at a time, retried with back-off.

    class MachineScheduler(Reconciler):
        def __init__(self, manager: Manager) -> None:
            super().__init__("machine-scheduler")
            self.client = manager.client
            self.machines = manager.informer(Machine)
            self.pools = manager.informer(MachinePool)
            self.watch(self.machines)
            self.watch(self.pools, lambda pool: [key_of(machine) for machine in self.machines.by_index("pending", "")])

        async def reconcile(self, key: Key) -> float | None:
            machine = self.machines.get(key.name, key.namespace)
            if machine is None:
                return None
            ...

`reconcile` looks at the present state only, never at what woke it. It returns None, or the seconds after which it wants
to look again even if nothing changes. Whatever it raises is retried with back-off; `Waiting` is not an error.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import structlog
from prometheus_client import Counter, Histogram

from services.apimachinery.client.objects import Key, M, key_of
from services.apimachinery.errors import AlreadyExists, Conflict
from services.apimachinery.runtime.conditions import FALSE
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.queue import WorkQueue
from services.apimachinery.runtime.schedule import RetryPolicy
from services.apimachinery.tracing import Origins
from services.common import telemetry
from services.common.logs import get_logger

__all__ = ["Key", "Reconciler", "Waiting", "key_of"]

log = get_logger(__name__)

RUNS = Counter("ferrite_reconciles", "Reconciles by what came of them.", ["reconciler", "result"])
SECONDS = Histogram("ferrite_reconcile_seconds", "Duration of one reconcile.", ["reconciler"])


class Waiting(Exception):
    """Something else must happen first; the arguments are those of the condition that tells the user.

    `message` says what would unblock the object. An event of a watched object wakes the key; `retry_after` (seconds)
    is for what can't be watched.
    """

    def __init__(
        self, type: str, reason: str, message: str, *, status: str = FALSE, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.type, self.status, self.reason, self.message = type, status, reason, message
        self.retry_after = retry_after


class Reconciler(ABC):
    """Works off the keys of one kind of objects. Subclasses implement `reconcile` and may override `on_*`."""

    deadline: ClassVar[float] = 300.0
    """Seconds after which one reconcile is cut off and retried: a worker must not hang for ever."""

    def __init__(self, name: str, *, workers: int = 1, retries: RetryPolicy | None = None) -> None:
        self.name = name
        self.workers = workers
        self.queue: WorkQueue[Key] = WorkQueue(name, retries)
        self._informers: list[Informer[Any]] = []
        self.origins = Origins()
        self._leads = False

    @abstractmethod
    async def reconcile(self, key: Key) -> float | None:
        """Brings the world of one object closer to what its spec wants."""

    async def on_waiting(self, key: Key, wait: Waiting) -> None:  # noqa: B027 - optional
        """Called when `reconcile` raised Waiting: the place to write the condition."""

    async def on_error(self, key: Key, error: Exception) -> None:  # noqa: B027 - optional
        """Called when `reconcile` failed unexpectedly, before it is retried: the place to write a condition."""

    def watch(self, informer: Informer[M], keys: Callable[[M], Iterable[Key]] | None = None) -> None:
        """Wakes `keys(obj)` (the object's own key when not given) for each change, for its old and its new state."""
        wanted = keys or _own_key
        # The object that reconcile is about brings its trace; others only wake it.
        leads = keys is None and not self._leads
        self._leads = self._leads or leads

        def wake(old: M | None, new: M | None) -> None:
            if leads and telemetry.enabled():
                self.origins.note(key_of(new if new is not None else old), new)  # type: ignore[arg-type]
            for obj in (old, new):
                if obj is not None:
                    for key in wanted(obj):
                        self.queue.add(key)

        self._informers.append(informer)
        informer.on_change(wake)

    async def run(self, workers: int | None = None) -> None:
        """Works until cancelled; starts when all watched informers are synced. A cancelled key is not lost."""
        for informer in self._informers:
            await informer.synced()
        async with asyncio.TaskGroup() as group:
            for number in range(workers or self.workers):
                group.create_task(self._work(), name=f"{self.name}-{number}")

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            try:
                with structlog.contextvars.bound_contextvars(reconciler=self.name, object=str(key)):
                    await self._once(key)
            except BaseException:
                self.queue.add(key)
                raise
            finally:
                self.queue.done(key)

    async def _once(self, key: Key) -> None:
        origin, join = self.origins.of(key) if telemetry.enabled() else (None, False)
        with (
            telemetry.resumed(f"reconcile {self.name}", origin, join=join, object=str(key)) as span,
            SECONDS.labels(self.name).time(),
        ):
            result = await self._attempt(key)
            span.set(result=result)
        RUNS.labels(self.name, result).inc()

    async def _attempt(self, key: Key) -> str:
        try:
            async with asyncio.timeout(self.deadline):
                again = await self.reconcile(key)
        except Waiting as wait:
            return await self._waits(key, wait)
        except (Conflict, AlreadyExists) as error:
            return self._lags(key, error)
        except Exception as error:
            return await self._failed(key, error)
        self.queue.forget(key)
        if again is None:
            return "done"
        self.queue.add_after(key, again)
        return "again"

    async def _waits(self, key: Key, wait: Waiting) -> str:
        try:
            await self.on_waiting(key, wait)
        except (Conflict, AlreadyExists) as error:
            return self._lags(key, error)
        except Exception as error:
            return await self._failed(key, error)
        if span := telemetry.running():
            span.set(waiting=wait.reason)
        self.queue.forget(key)
        if wait.retry_after is not None:
            self.queue.add_after(key, wait.retry_after)
        return "waiting"

    def _lags(self, key: Key, error: Conflict | AlreadyExists) -> str:
        """The cache lags behind the server; the event that brings it up to date is on its way."""
        log.debug("reconcile met a newer state", error=error.message, again_in=self.queue.retry(key))
        return "conflict"

    async def _failed(self, key: Key, error: Exception) -> str:
        delay = self.queue.retry(key)
        if span := telemetry.running():
            span.fail(error)
        log.warning(
            "reconcile failed",
            error=f"{type(error).__name__}: {error}",
            failures=self.queue.failures(key),
            again_in=round(delay, 3),
            exc_info=error if self.queue.failures(key) == 1 else None,
        )
        try:
            await self.on_error(key, error)
        except Exception as second:
            log.warning("reporting a failure failed", error=f"{type(second).__name__}: {second}")
        return "error"


def _own_key(obj: Any) -> list[Key]:
    return [key_of(obj)]
