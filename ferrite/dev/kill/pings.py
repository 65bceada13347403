"""Counts lost pings in what tcpdump saw at a guest's port. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LINE = re.compile(r"^([0-9.]+) IP (\S+) > (\S+): ICMP echo (request|reply), id (\d+), seq (\d+),")


@dataclass(frozen=True)
class Tally:
    """Requests of a span of time: how many, which of them were never answered (when sent), the slowest answer."""

    sent: int
    lost: tuple[float, ...]
    slowest: float


class PingLog:
    """Echo requests that left a guest, and their replies. Times are seconds since 1970, as `tcpdump -tt` prints them.

    A request is told by the address pair, the identifier and the sequence number.
    """

    def __init__(self) -> None:
        self._sent: dict[tuple[str, str, str, str], float] = {}
        self._answered: dict[tuple[str, str, str, str], float] = {}

    def add(self, lines: Iterable[str]) -> None:
        """Takes lines of tcpdump; others than ICMP echoes are passed over."""
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            when, source, target, kind, identity, sequence = match.groups()
            if kind == "request":
                self._sent.setdefault((source, target, identity, sequence), float(when))
            else:
                self._answered.setdefault((target, source, identity, sequence), float(when))

    def tally(self, begin: float, end: float) -> Tally:
        """Requests sent in [begin, end); ask when the last of them has had time to be answered."""
        sent = {key: when for key, when in self._sent.items() if begin <= when < end}
        lost = sorted(when for key, when in sent.items() if key not in self._answered)
        times = [self._answered[key] - when for key, when in sent.items() if key in self._answered]
        return Tally(len(sent), tuple(lost), max(times, default=0.0))
