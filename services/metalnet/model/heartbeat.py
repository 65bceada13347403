"""Which nodes' agents are alive, judged without trusting their clocks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Heartbeat:
    """A lease as read: `renewed` changes with every renewal, `seconds` is how long one is good for."""

    renewed: str
    seconds: float


class Heartbeats:
    """Remembers when each lease was last seen to change."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Heartbeat, float]] = {}

    def lost(self, present: Mapping[str, Heartbeat], now: float) -> list[str]:
        """The nodes whose lease has not changed for longer than it is good for; `now` in seconds of one clock."""
        for name in self._seen.keys() - present.keys():
            del self._seen[name]
        for name, heartbeat in present.items():
            known = self._seen.get(name)
            if known is None or known[0] != heartbeat:
                self._seen[name] = (heartbeat, now)
        return [name for name, (heartbeat, since) in self._seen.items() if now - since > heartbeat.seconds]


class Absences:
    """Remembers since when each node is missing."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: dict[str, float] = {}

    def over(self, missing: Set[str], now: float) -> list[str]:
        """The nodes that have been missing for longer than `patience` (seconds) without a break."""
        self._since = {name: self._since.get(name, now) for name in missing}
        return [name for name, since in self._since.items() if now - since > self._patience]
