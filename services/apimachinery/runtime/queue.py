"""The work queue of a reconciler: `schedule.py` driven by the event loop's clock, with metrics."""

from __future__ import annotations

import asyncio
from typing import Generic

from prometheus_client import Counter, Gauge

from services.apimachinery.runtime.schedule import K, RetryPolicy, Schedule

ADDS = Counter("ferrite_workqueue_adds", "Keys that became due.", ["queue"])
RETRIES = Counter("ferrite_workqueue_retries", "Keys put back after a failure.", ["queue"])
DEPTH = Gauge("ferrite_workqueue_depth", "Keys that are due and not yet taken.", ["queue"])
WAITING = Gauge("ferrite_workqueue_waiting", "Keys that are due later.", ["queue"])


class WorkQueue(Generic[K]):
    """Keys waiting for a worker: deduplicated, one worker per key, per-key exponential back-off."""

    def __init__(self, name: str, retries: RetryPolicy | None = None) -> None:
        self.name = name
        self._schedule: Schedule[K] = Schedule(retries)
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._schedule)

    @property
    def idle(self) -> bool:
        """Nothing is due and no worker is busy (keys may be due later)."""
        return not len(self._schedule) and not self._schedule.taken

    def add(self, key: K) -> None:
        """Makes the key due now."""
        if self._schedule.add(key):
            ADDS.labels(self.name).inc()
        self._notify()

    def add_after(self, key: K, seconds: float) -> None:
        """Makes the key due later; an earlier request stands."""
        self._schedule.add_after(key, seconds, self._now())
        self._notify()

    def retry(self, key: K) -> float:
        """After a failure: due again with back-off; returns the delay in seconds."""
        delay = self._schedule.retry(key, self._now())
        RETRIES.labels(self.name).inc()
        self._notify()
        return delay

    def failures(self, key: K) -> int:
        """Failures of the key in a row."""
        return self._schedule.failures(key)

    def forget(self, key: K) -> None:
        """After a success: ends the back-off."""
        self._schedule.forget(key)

    async def take(self) -> K:
        """Waits for a due key; it is the caller's until `done`."""
        while True:
            key = self._schedule.take(self._now())
            if key is not None:
                self._measure()
                return key
            self._changed.clear()
            at = self._schedule.next_at()
            try:
                async with asyncio.timeout_at(at):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def done(self, key: K) -> None:
        """The caller has finished with the key, whatever came of it."""
        self._schedule.done(key)
        self._notify()

    def _notify(self) -> None:
        self._measure()
        self._changed.set()

    def _measure(self) -> None:
        DEPTH.labels(self.name).set(len(self._schedule))
        WAITING.labels(self.name).set(self._schedule.waiting)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
