"""Traces of one process: spans that join a trace which came from elsewhere, or begin one.

    telemetry.configure(settings, "core-apiserver")            # run_service does it

    with telemetry.request("create machines", headers.get("traceparent"), begin=True) as span:   # at a door
        span.set(code=201)
    with telemetry.resumed("reconcile scheduler", origin):     # work that an object's annotation speaks of
    with telemetry.step("start the domain"):                   # part of whatever runs, if that is traced

Off unless settings name an exporter; then everything here does nothing, and OpenTelemetry is not even imported. A span
outside of a sampled trace costs nothing either: sampling is decided where a trace begins and travels with it.
Reads are not traced: a trace tells what an order set in motion, and pollers would never let it end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from services.common.telemetry_context import RUNNING, TraceContext, parse, running, traceparent

if TYPE_CHECKING:
    from services.common.settings import ServiceSettings
    from services.common.telemetry_export import Pipeline

__all__ = [
    "Span",
    "configure",
    "enabled",
    "request",
    "resumed",
    "running",
    "shutdown",
    "step",
    "traceparent",
    "untraced",
]

FLUSH_SECONDS: Final = 3.0
"""For the last spans at the end of a process."""

_READS: Final = ("Get", "List", "Watch", "Check", "Version", "Status", "Range", "Compact", "LeaseGrant")

_pipeline: Pipeline | None = None


class Span:
    """A span that runs in this process."""

    __slots__ = ("_settled", "_span", "context", "ended", "touched")

    def __init__(self, span: Any, context: TraceContext) -> None:
        self._span, self.context = span, context
        self.touched = self.ended = self._settled = False

    def set(self, **attributes: str | int | float | bool) -> None:
        """Adds what became known."""
        if self._span is not None:
            self._span.set_attributes(attributes)

    def fail(self, error: BaseException | str) -> None:
        """Marks it as failed."""
        self.touched = True
        if self._span is not None and _pipeline is not None and not self._settled:
            text = error if isinstance(error, str) else _told(error)
            _pipeline.mark_failed(self._span, text)

    def settle(self, error: str = "") -> None:
        """Its outcome, empty for a success; an exception that passes through it afterwards means nothing."""
        if error:
            self.fail(error)
        self._settled = True


NOTHING: Final = Span(None, TraceContext("0" * 32, "0" * 16, sampled=False))
"""Stands for a span that is not recorded."""


def configure(settings: ServiceSettings, service: str, **fields: str) -> None:
    """Starts tracing as the settings say; `service` and `fields` (node) stand in every span.

    Raises ValueError for an unusable endpoint or when OpenTelemetry is not installed, OSError for a directory that
    can't be written.
    """
    global _pipeline
    if not settings.trace_directory and not settings.trace_otlp_endpoint:
        return
    try:
        from services.common.telemetry_export import Pipeline
    except ImportError as error:
        raise ValueError(f"traces need the extra ferrite[telemetry]: {error}") from error
    _pipeline = Pipeline(settings, service, fields)


def enabled() -> bool:
    """Whether spans are recorded."""
    return _pipeline is not None


def shutdown() -> None:
    """Hands out the last spans, if the receiver is quick about it."""
    global _pipeline
    pipeline, _pipeline = _pipeline, None
    if pipeline is not None:
        flush = threading.Thread(target=pipeline.close, name="traces", daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)


def is_read(method: str) -> bool:
    """Whether a gRPC method (`/package.Service/Name`) only looks."""
    return method.rpartition("/")[2].startswith(_READS)


@contextmanager
def request(name: str, header: str | None, *, begin: bool = False, **attributes: Any) -> Iterator[Span]:
    """A request from outside: it joins the caller's trace, or with `begin` may begin one. Traces nothing else."""
    parent = parse(header)
    if _pipeline is None or (parent is None and not begin) or (parent is not None and not parent.sampled):
        yield NOTHING
        return
    with _opened(_pipeline, name, "server", parent, attributes) as span:
        yield span


@contextmanager
def resumed(name: str, origin: TraceContext | None, *, join: bool = True, **attributes: Any) -> Iterator[Span]:
    """Work on behalf of an earlier span. It is recorded only if it changes something: makes a call, runs a step, fails.

    Without `join` it begins a trace of its own with a link to that span (work that comes back to an old matter).
    """
    if _pipeline is None or origin is None or not origin.sampled:
        yield NOTHING
        return
    parent, links = (origin, ()) if join else (None, (origin,))
    with _opened(_pipeline, name, "consumer", parent, attributes, links, quiet=True) as span:
        yield span


@contextmanager
def step(name: str, kind: str = "internal", **attributes: Any) -> Iterator[Span]:
    """Part of the running span; nothing outside of one."""
    active = running()
    if _pipeline is None or active is None:
        yield NOTHING
        return
    active.touched = True
    with _opened(_pipeline, name, kind, active.context, attributes) as span:
        yield span


@contextmanager
def untraced() -> Iterator[None]:
    """What happens within is part of no trace: looking, as opposed to doing."""
    token = RUNNING.set(None)
    try:
        yield
    finally:
        RUNNING.reset(token)


def _told(error: BaseException) -> str:
    """What a trace says of it. A gRPC error prints as a page of which code and details matter."""
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    if callable(code) and callable(details):
        return f"{code().name}: {details()}"
    return f"{type(error).__name__}: {error}"


@contextmanager
def _opened(
    pipeline: Pipeline,
    name: str,
    kind: str,
    parent: TraceContext | None,
    attributes: dict[str, Any],
    links: tuple[TraceContext, ...] = (),
    *,
    quiet: bool = False,
) -> Iterator[Span]:
    inner, context = pipeline.start(name, kind, parent, attributes, links)
    span = Span(inner, context)
    token = RUNNING.set(span)
    try:
        yield span
    except BaseException as error:
        span.fail(error)
        raise
    finally:
        RUNNING.reset(token)
        span.ended = True
        # One that is never ended is never handed out.
        if span.touched or not quiet:
            inner.end()
