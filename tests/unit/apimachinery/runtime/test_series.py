from __future__ import annotations

from services.apimachinery.runtime.series import (
    BURST,
    MAX_SERIES,
    SECONDS_PER_TOKEN,
    SERIES_ENDS_AFTER,
    UPDATE_INTERVAL,
    EventSeries,
    Occurrence,
    Series,
    Subject,
)

WALL = 1_700_000_000.0


def occurrence(note: str = "no pool fits", uid: str = "u1") -> Occurrence:
    subject = Subject("compute.ironcore.dev/v1alpha1", "Machine", "default", "vm", uid)
    return Occurrence(subject, "Warning", "Unschedulable", "Schedule", note)


def written(series: EventSeries, now: float) -> list[tuple[int, int]]:
    """Writes what is due, as a recorder does; (count, count the server knew) of each."""
    out = []
    for due in series.due(now):
        out.append((due.count, due.written))
        series.written(due, due.count, now)
    return out


def only(series: EventSeries, now: float) -> Series:
    (due,) = series.due(now)
    return due


def test_the_first_two_are_written_at_once_and_later_ones_together() -> None:
    series = EventSeries()
    series.record(occurrence(), 0, WALL)
    assert written(series, 0) == [(1, 0)]
    series.record(occurrence(), 1, WALL + 1)
    assert written(series, 1) == [(2, 1)]
    for second in range(2, 8):
        series.record(occurrence(), second, WALL + second)
    assert written(series, 8) == []
    assert series.next_at() == 1 + UPDATE_INTERVAL
    assert written(series, 1 + UPDATE_INTERVAL) == [(8, 2)]
    assert series.next_at() is None


def test_different_notes_are_different_events() -> None:
    series = EventSeries()
    series.record(occurrence("a"), 0, WALL)
    series.record(occurrence("b"), 0, WALL + 1)
    assert written(series, 0) == [(1, 0), (1, 0)]


def test_after_a_quiet_time_a_new_event_begins() -> None:
    series = EventSeries()
    series.record(occurrence(), 0, WALL)
    first = only(series, 0).name
    written(series, 0)
    series.record(occurrence(), SERIES_ENDS_AFTER, WALL + SERIES_ENDS_AFTER)
    assert only(series, SERIES_ENDS_AFTER).name != first


def test_an_object_with_too_many_events_is_cut_off_and_recovers() -> None:
    series = EventSeries()
    assert all(series.record(occurrence(str(n)), 0, WALL + n) for n in range(BURST))
    assert not series.record(occurrence("one more"), 0, WALL)
    assert series.record(occurrence("of another", uid="u2"), 0, WALL)
    assert series.record(occurrence("later"), SECONDS_PER_TOKEN, WALL)


def test_a_failed_write_is_tried_again_and_a_lost_event_created_again() -> None:
    series = EventSeries()
    series.record(occurrence(), 0, WALL)
    series.postpone(only(series, 0), 5)
    assert series.due(4) == []
    assert written(series, 5) == [(1, 0)]
    series.record(occurrence(), 6, WALL)
    series.restart(only(series, 6))
    assert written(series, 6) == [(2, 0)]


def test_a_refused_event_is_dropped() -> None:
    series = EventSeries()
    series.record(occurrence(), 0, WALL)
    series.drop(only(series, 0))
    assert series.next_at() is None


def test_memory_is_bounded_even_if_nothing_is_ever_written() -> None:
    series = EventSeries()
    for number in range(MAX_SERIES + 100):
        series.record(occurrence(uid=f"u{number}"), 0, WALL)
    assert len(series.due(0)) == MAX_SERIES
