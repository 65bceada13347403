"""How soon a guest that ended may be started again: a guest that ends at once must not be started in a hot loop.

Pure; times are seconds of one monotonic clock, passed in.
"""

from __future__ import annotations

from typing import Final

# A domain that lived longer than this was no failure.
HEALTHY_SECONDS: Final = 60.0
FIRST_SECONDS: Final = 2.0
LIMIT_SECONDS: Final = 300.0


class Restarts:
    """The starts of all machines of this process."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def started(self, machine_id: str, now: float) -> None:
        """The machine has been started."""
        self._started[machine_id] = now

    def delay(self, machine_id: str, now: float) -> float:
        """Seconds to wait before a machine without a domain is started; 0 = start it."""
        started = self._started.pop(machine_id, None)
        if started is not None:
            failures = self._failures.get(machine_id, 0) + 1 if now - started < HEALTHY_SECONDS else 0
            self._failures[machine_id] = failures
            if failures:
                pause = min(LIMIT_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 30))
                self._not_before[machine_id] = now + pause
        return max(0.0, self._not_before.get(machine_id, now) - now)

    def forget(self, machine_id: str) -> None:
        """It was stopped on purpose, or is gone: the next start is the first."""
        for table in (self._started, self._failures, self._not_before):
            table.pop(machine_id, None)
