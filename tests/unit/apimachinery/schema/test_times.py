"""Times and durations as texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apimachinery.schema.times import (
    format_duration,
    format_micro_time,
    format_time,
    parse_duration,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("1970-01-01T00:00:01.5Z", 1, 500_000_000),
        ("1970-01-01t02:00:00+02:00", 0, 0),
        ("1969-12-31T23:59:59Z", -1, 0),
        ("2026-01-01T00:00:00.123456789Z", 1767225600, 123_456_000),
    ],
)
def test_parse_time(text: str, seconds: int, nanos: int) -> None:
    assert parse_time(text) == (seconds, nanos)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-01",
        "20260101T000000Z",
        "2026-01-01T00:00:00",
        "2026-13-01T00:00:00Z",
        "2026-W01-1T00:00:00Z",
    ],
)
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


@given(st.integers(-62135596800, 253402300799), st.integers(0, 999_999))
def test_time_round_trip(seconds: int, micros: int) -> None:
    assert parse_time(format_time(seconds)) == (seconds, 0)
    assert parse_time(format_micro_time(seconds, micros * 1000)) == (seconds, micros * 1000)


def test_a_time_beyond_the_year_9999() -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        format_time(10**18)


@pytest.mark.parametrize(
    ("text", "nanos", "form"),
    [
        ("0", 0, "0s"),
        ("1h30m", 5_400_000_000_000, "1h30m0s"),
        ("90s", 90_000_000_000, "1m30s"),
        ("1.5s", 1_500_000_000, "1.5s"),
        ("20ms", 20_000_000, "20ms"),
        ("1500us", 1_500_000, "1.5ms"),
        ("7ns", 7, "7ns"),
        ("-2m", -120_000_000_000, "-2m0s"),
        ("+.5h", 1_800_000_000_000, "30m0s"),
    ],
)
def test_durations(text: str, nanos: int, form: str) -> None:
    assert parse_duration(text) == nanos
    assert format_duration(nanos) == form


@pytest.mark.parametrize("text", ["", "1", "h", "1d", "1h 2m", "--1s", "1.2.3s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(-(2**63), 2**63 - 1))
def test_duration_round_trip(nanos: int) -> None:
    assert parse_duration(format_duration(nanos)) == nanos
