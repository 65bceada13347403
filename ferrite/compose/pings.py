"""What a demonstration guest's console says of its pings. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIRST = re.compile(r"ping \S+ ok ([0-9.]+) ms")
_SUM = re.compile(r"ping \S+ sent (\d+) lost (\d+) last (\S+) ms")


@dataclass(frozen=True)
class Pings:
    """The first answer's time in ms (empty before it), and the last of the sums that the guest tells at times."""

    first_answer: str = ""
    sent: int = 0
    lost: int = 0
    answering: bool = False

    @staticmethod
    def read(console: str) -> Pings:
        """From all lines of a console."""
        first = _FIRST.search(console)
        sums = _SUM.findall(console)
        sent, lost, last = sums[-1] if sums else (0, 0, "none")
        return Pings(first[1] if first else "", int(sent), int(lost), last != "none")
