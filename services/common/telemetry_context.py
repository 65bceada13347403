"""Where we are in a trace: the W3C `traceparent` codec, and the span that the running task is in.

Light on purpose: logs and clients import it, whether or not traces are on.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

HEADER: Final = "traceparent"
"""Name of the HTTP header and of the gRPC metadata (W3C Trace Context, section 3.2)."""

_SAMPLED: Final = 0x01
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_INVALID_VERSION: Final = "ff"
_FIRST_VERSION: Final = "00"


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span, as another process names it: 32 and 16 lower-case hexadecimal digits."""

    trace_id: str
    span_id: str
    sampled: bool = True

    def __str__(self) -> str:
        return f"{_FIRST_VERSION}-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"


def parse(text: str | None) -> TraceContext | None:
    """Reads a traceparent; None for one that the standard tells to ignore.

    Fields after the known four are legal in later versions, and only there.
    """
    match = _TRACEPARENT.fullmatch(text or "")
    if match is None:
        return None
    version, trace_id, span_id, flags, further = match.groups()
    if version == _INVALID_VERSION or (version == _FIRST_VERSION and further):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


class Active(Protocol):
    """A span that runs. `touched`: somebody else has its context, so that it must be recorded."""

    context: TraceContext
    touched: bool
    ended: bool

    def set(self, **attributes: str | int | float | bool) -> None:
        """Adds what became known."""

    def fail(self, error: BaseException | str) -> None:
        """Marks it as failed."""


RUNNING: Final[ContextVar[Active | None]] = ContextVar("span", default=None)


def running() -> Active | None:
    """The recorded span that the task is in; None without one.

    Tasks inherit it from the one that started them; one that outlives the span is not part of it any more.
    """
    active = RUNNING.get()
    return active if active is not None and not active.ended and active.context.sampled else None


def traceparent() -> str:
    """What to send with a request so that its work joins the trace; empty outside of one."""
    active = running()
    if active is None:
        return ""
    active.touched = True
    return str(active.context)
