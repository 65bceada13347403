"""Times (RFC 3339, always written in UTC) and durations ("1h30m0s") as Kubernetes' JSON has them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_UNITS: Final = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1000,
    "µs": 1000,
    "ns": 1,
}
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)", re.ASCII)


@lru_cache(maxsize=4096)
def parse_time(text: str) -> tuple[int, int]:
    """Seconds since the epoch and nanoseconds (whole microseconds); ValueError for what isn't an RFC 3339 time."""
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"{text!r} is not an RFC 3339 time such as 2006-01-02T15:04:05Z")
    since = datetime.fromisoformat(text.upper()) - _EPOCH
    return since.days * 86400 + since.seconds, since.microseconds * 1000


@lru_cache(maxsize=4096)
def format_time(seconds: int) -> str:
    """A Time: whole seconds. ValueError beyond the years 1 to 9999."""
    return f"{_moment(seconds):%Y-%m-%dT%H:%M:%SZ}".rjust(20, "0")


def format_micro_time(seconds: int, nanos: int) -> str:
    """A MicroTime: six decimals. ValueError beyond the years 1 to 9999."""
    return f"{format_time(seconds)[:-1]}.{nanos // 1000:06d}Z"


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration such as "1h30m" or "-1.5s"; ValueError for anything else."""
    sign, unsigned = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if unsigned == "0":
        return 0
    parts = list(_DURATION_PART.finditer(unsigned))
    if not parts or "".join(part[0] for part in parts) != unsigned:
        raise ValueError(f"{text!r} is not a duration such as 1h30m or 15s")
    total = 0
    for part in parts:
        whole, _, fraction = part[1].partition(".")
        unit = _UNITS[part[2]]
        total += int(whole or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
    return sign * total


def format_duration(nanos: int) -> str:
    """A duration's canonical form: "1h30m0s", "1.5s", "20ms", "0s"."""
    sign, rest = ("-", -nanos) if nanos < 0 else ("", nanos)
    if rest < _UNITS["s"]:
        unit = next((unit for unit in ("ms", "µs", "ns") if rest >= _UNITS[unit]), "")
        return f"{sign}{_decimal(rest, _UNITS[unit])}{unit}" if unit else "0s"
    hours, rest = divmod(rest, _UNITS["h"])
    minutes, rest = divmod(rest, _UNITS["m"])
    text = f"{_decimal(rest, _UNITS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else f"{sign}{text}"


def _moment(seconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"{seconds} s since 1970 lies beyond the years 1 to 9999") from error


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    return f"{whole}.{part:0{len(str(unit)) - 1}d}".rstrip("0") if part else str(whole)
