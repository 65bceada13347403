"""Events that repeat become a series: the pure rules of what is written and when.

The first occurrence is written at once, the second too (it starts the series), later ones only count and are written
together. An object that makes too many different events is cut off for a while, as Kubernetes' own recorder does
(25 at once, then one in five minutes).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple

SERIES_ENDS_AFTER: Final = 360.0
"""Seconds without another occurrence (client-go: 6 minutes)."""
UPDATE_INTERVAL: Final = 10.0
"""Fewest seconds between two writes of one series."""
BURST: Final = 25
SECONDS_PER_TOKEN: Final = 300.0
MAX_SERIES: Final = 4096


class Subject(NamedTuple):
    """The object that an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class Occurrence(NamedTuple):
    """What happened; equal ones are a series."""

    subject: Subject
    type: str
    reason: str
    action: str
    note: str


@dataclass
class Series:
    """One event as it is to be written: `name` is that of the Event object, times are Unix seconds."""

    occurrence: Occurrence
    name: str
    first: float
    last: float
    count: int = 1
    written: int = 0
    """The count that the server knows; 0 = the event has not been created."""
    write_at: float = 0.0
    seen_at: float = 0.0


class EventSeries:
    """All events of one recorder. `now` is a monotonic clock, `wall` Unix seconds."""

    def __init__(self) -> None:
        self._series: OrderedDict[Occurrence, Series] = OrderedDict()
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def record(self, occurrence: Occurrence, now: float, wall: float) -> bool:
        """Counts an occurrence; False when its subject has used up its events."""
        series = self._series.get(occurrence)
        if series is not None and now < series.seen_at + SERIES_ENDS_AFTER:
            series.count, series.last, series.seen_at = series.count + 1, wall, now
            self._series.move_to_end(occurrence)
            return True
        if not self._allow(occurrence.subject.uid, now):
            return False
        # Kubernetes' names of events: the object's, and the time in hexadecimal nanoseconds.
        name = f"{occurrence.subject.name}.{int(wall * 1e9):x}"
        self._series[occurrence] = Series(occurrence, name, first=wall, last=wall, write_at=now, seen_at=now)
        self._series.move_to_end(occurrence)
        if len(self._series) > MAX_SERIES:
            self._series.popitem(last=False)
        return True

    def due(self, now: float) -> list[Series]:
        """The series to be written now."""
        self._end_old(now)
        return [series for series in self._series.values() if series.written < series.count and series.write_at <= now]

    def next_at(self) -> float | None:
        """When the next write is due; None when everything is written."""
        return min((series.write_at for series in self._series.values() if series.written < series.count), default=None)

    def written(self, series: Series, count: int, now: float) -> None:
        """The server has the series with that count."""
        # The second occurrence is written without delay: it shows that the event repeats.
        series.write_at = now if count == 1 else now + UPDATE_INTERVAL
        series.written = count

    def postpone(self, series: Series, until: float) -> None:
        """The write failed and is tried again later."""
        series.write_at = until

    def restart(self, series: Series) -> None:
        """The server has lost the event (it expired): it must be created again."""
        series.written = 0

    def drop(self, series: Series) -> None:
        """The server will never take this one."""
        self._series.pop(series.occurrence, None)

    def _end_old(self, now: float) -> None:
        while self._series:
            oldest = next(iter(self._series.values()))
            if now < oldest.seen_at + SERIES_ENDS_AFTER or oldest.written < oldest.count:
                return
            self._series.popitem(last=False)

    def _allow(self, uid: str, now: float) -> bool:
        tokens, at = self._tokens.pop(uid, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - at) / SECONDS_PER_TOKEN)
        allowed = tokens >= 1
        self._tokens[uid] = (tokens - 1 if allowed else tokens, now)
        if len(self._tokens) > MAX_SERIES:
            self._tokens.popitem(last=False)
        return allowed
