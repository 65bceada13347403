"""What a demonstration guest's console says of its pings. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"ping \S+ (?:(ok) ([0-9.]+) ms|(lost)|sent \d+ lost \d+ last (\S+) ms)")


@dataclass(frozen=True)
class Pings:
    """The first answer's time, how often answers ceased, and whether they come at the end."""

    first_answer: str = ""
    losses: int = 0
    answering: bool = False

    @staticmethod
    def read(console: str) -> Pings:
        """From all lines of a console. The guest says `ok` and `lost` only when that changes, and a sum at times."""
        first, losses, answering = "", 0, False
        for ok, milliseconds, lost, last in _LINE.findall(console):
            if ok:
                first, answering = first or f"{milliseconds} ms", True
            elif lost:
                losses, answering = losses + 1, False
            else:
                answering = last != "none"
        return Pings(first, losses, answering)
