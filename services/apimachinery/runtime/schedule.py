"""When a key is due: the pure rules of a work queue. Times are seconds of one monotonic clock, passed in."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class RetryPolicy:
    """Delay after the n-th failure in a row: `first` doubled each time, at most `limit` seconds."""

    first: float = 0.05
    limit: float = 300.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after `failures` (1 or more) failures in a row."""
        # The exponent is capped before the power is taken: 2.0**1024 overflows.
        return min(self.limit, self.first * 2.0 ** min(failures - 1, 60))


class Schedule(Generic[K]):
    """Keys to be worked on: each stands in it once, is worked on by one worker at a time, and is never forgotten.

    A key added while a worker has it is due again when the worker is done. Pure.
    """

    def __init__(self, retries: RetryPolicy | None = None) -> None:
        self._retries = retries or RetryPolicy()
        self._due: deque[K] = deque()
        self._queued: set[K] = set()
        self._taken: set[K] = set()
        self._dirty: set[K] = set()
        self._later: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._due)

    @property
    def taken(self) -> int:
        """Keys that workers have."""
        return len(self._taken)

    @property
    def waiting(self) -> int:
        """Keys that are due later."""
        return len(self._later)

    def add(self, key: K) -> bool:
        """Makes the key due now; False when it was already."""
        self._later.pop(key, None)
        if key in self._taken:
            fresh = key not in self._dirty
            self._dirty.add(key)
            return fresh
        if key in self._queued:
            return False
        self._queued.add(key)
        self._due.append(key)
        return True

    def add_after(self, key: K, delay: float, now: float) -> None:
        """Makes the key due in `delay` seconds; the earliest of several requests counts."""
        if delay <= 0:
            self.add(key)
            return
        at = now + delay
        if key in self._queued or key in self._dirty or self._later.get(key, at + 1) <= at:
            return
        self._later[key] = at
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, key))

    def retry(self, key: K, now: float) -> float:
        """After a failure: due again with back-off; returns the delay."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._retries.delay(failures)
        self.add_after(key, delay, now)
        return delay

    def failures(self, key: K) -> int:
        """Failures in a row."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """After a success: the next failure starts with the first delay again."""
        self._failures.pop(key, None)

    def take(self, now: float) -> K | None:
        """The next due key, now the caller's until `done`; None when nothing is due."""
        self._wake(now)
        if not self._due:
            return None
        key = self._due.popleft()
        self._queued.discard(key)
        self._taken.add(key)
        return key

    def done(self, key: K) -> None:
        """The worker has finished with the key."""
        self._taken.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)

    def next_at(self) -> float | None:
        """When the next delayed key becomes due; None when there is none."""
        while self._heap and self._later.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _wake(self, now: float) -> None:
        while (at := self.next_at()) is not None and at <= now:
            self.add(heapq.heappop(self._heap)[2])
