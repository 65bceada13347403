"""Whether a process does its work: what /readyz answers (`ops.py`)."""

from __future__ import annotations

from collections.abc import Callable

Check = Callable[[], str]
"""Says what is wrong; empty when all is well. Must not block."""


class Health:
    """Whether a process does its work: once `ready()` was called, while no check complains, until it drains."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._missing = "starting"

    def ready(self) -> None:
        """Start-up is complete."""
        self._missing = ""

    def draining(self) -> None:
        """The process is about to end: no new work, please."""
        self._missing = "draining"

    def add(self, name: str, check: Check) -> None:
        """Adds something without which the process can't work."""
        self._checks[name] = check

    def problems(self) -> list[str]:
        """What is wrong, one line each; empty when the process is ready."""
        if self._missing:
            return [self._missing]
        return [f"{name}: {problem}" for name, check in self._checks.items() if (problem := check())]
