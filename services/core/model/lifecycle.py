"""Whether the poollets of machine pools still report. Pure; times are seconds of one monotonic clock, passed in.

Only what this process observed counts: after a restart each pool gets a fresh grace period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.core.model.demands import READY

STATUS_UNKNOWN: Final = "MachinePoolStatusUnknown"
"""Reason of the condition Ready of a pool that went silent."""
UNKNOWN_MESSAGE: Final = "the pool's poollet stopped reporting; check that it runs and reaches the API server"

__all__ = ["READY", "STATUS_UNKNOWN", "UNKNOWN_MESSAGE", "Heartbeats", "Sign"]


@dataclass(frozen=True)
class Sign:
    """Signs of life: the lease's renewal (None without a lease) and the condition Ready (None without one)."""

    renewed: tuple[int, int] | None
    ready: tuple[str, int] | None


class Heartbeats:
    """When each pool last showed a new sign of life."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._seen: dict[str, tuple[Sign, float]] = {}

    def observe(self, pool: str, sign: Sign, now: float) -> None:
        """Takes note of a pool; the first look counts as a sign of life."""
        known = self._seen.get(pool)
        if known is None or known[0] != sign:
            self._seen[pool] = sign, now

    def left(self, pool: str, now: float) -> float:
        """Seconds until the pool counts as silent; zero or less when it does. A full period for an unknown pool."""
        known = self._seen.get(pool)
        return self._grace if known is None else known[1] + self._grace - now

    def forget(self, pool: str) -> None:
        """The pool is gone."""
        self._seen.pop(pool, None)
