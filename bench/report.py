"""Where, when and how a figure was measured, beside the figure itself."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

OUT: Final = Path("build/bench")
PRIORITY: Final = "-15"  # nice value of a session


def machine() -> str:
    """One line: processor, cores, memory, kernel."""
    cpus = Path("/proc/cpuinfo").read_text()
    model = next(
        (line.partition(":")[2].strip() for line in cpus.splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


@contextmanager
def ahead_of_others() -> Iterator[None]:
    """Puts our session, and what starts in it, before the machine's others; not all the way, they go on slower."""
    try:
        put_ahead(Path("/proc/self"))
        yield
    finally:
        put_ahead(Path("/proc/self"), "0")


def put_ahead(process: Path, nice: str = PRIORITY) -> None:
    """Gives the session of a process a nice value. Needs root; a kernel that shares otherwise has no such file."""
    with suppress(OSError):
        (process / "autogroup").write_text(nice)


def load() -> str:
    """What runs on the machine beside the bench: load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def median(values: Iterable[float]) -> float:
    """Of an odd or even number of values."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Smallest and largest value."""
    return f"{min(values):.3g}-{max(values):.3g}"


class Report:
    """A table of one bench, `name` as in make bench-NAME. `command` is what a person types to see it again."""

    def __init__(self, name: str, command: str, *columns: str) -> None:
        self._name, self._load = name, load()
        self._table = Table(*columns, title=command, title_justify="left")
        self.notes = [f"machine: {machine()}", f"when: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"]

    def row(self, *cells: object) -> None:
        """One line of the table; floats with three significant digits."""
        self._table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells))

    def finish(self, figures: Mapping[str, float], *, write: bool = True) -> None:
        """Prints the table and writes the figures, one flat object."""
        console = Console(width=None if sys.stdout.isatty() else 118)
        console.print(self._table)
        for note in [*self.notes, f"load average (1, 5, 15 min): {self._load} at the start, {load()} at the end"]:
            console.print(f"  {note}", highlight=False)
        if write:
            OUT.mkdir(parents=True, exist_ok=True)
            path = OUT / f"{self._name}.json"
            path.write_text(json.dumps({key: round(value, 4) for key, value in figures.items()}, indent=2) + "\n")
            console.print(f"  written to {path}", highlight=False)


def goal(value: float, wanted: float, *, at_most: bool = False) -> str:
    """Says whether a goal is met."""
    met = value <= wanted if at_most else value >= wanted
    return f"{'≤' if at_most else '≥'} {wanted:g} {'met' if met else 'MISSED'}"
