"""What is measured and traced of each request, at both doors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from prometheus_client import Counter, Histogram

from services.apimachinery.server.resource import Resource
from services.common import telemetry

REQUESTS = Counter(
    "ferrite_apiserver_requests",
    "Requests by door (rest, grpc), verb, resource (empty: none of ours) and HTTP code.",
    ["door", "verb", "resource", "code"],
)
SECONDS = Histogram("ferrite_apiserver_request_seconds", "Time to answer, watches excluded.", ["door", "verb"])

_READS: Final = frozenset({"get", "list", "watch"})
CLIENT_GONE: Final = 499
"""Code of a request whose client did not wait for the answer (as nginx counts it)."""


class Seen:
    """A request that is being answered; `code` becomes that of the answer."""

    __slots__ = ("code", "span")

    def __init__(self, span: telemetry.Span) -> None:
        self.span = span
        self.code = 200


@contextmanager
def answering(
    door: str, verb: str, resource: Resource | None, subresource: str, obj: str, header: str | None
) -> Iterator[Seen]:
    """Counts, times and traces one request; `obj` is namespace/name as far as it is known, `header` a traceparent."""
    started = time.perf_counter()
    where = resource.kind.resource if resource is not None else ""
    if subresource and resource is not None and subresource in resource.subresources:
        where += f"/{subresource}"
    with _traced(verb, resource, subresource, where, obj, header) as span:
        seen = Seen(span)
        try:
            yield seen
        except (ConnectionError, asyncio.CancelledError):
            seen.code = CLIENT_GONE
            raise
        finally:
            REQUESTS.labels(door, verb, where, seen.code).inc()
            if verb != "watch":
                SECONDS.labels(door, verb).observe(time.perf_counter() - started)
            span.set(code=seen.code)
            span.settle(f"answered {seen.code}" if seen.code >= 500 else "")


def _traced(
    verb: str, resource: Resource | None, subresource: str, where: str, obj: str, header: str | None
) -> AbstractContextManager[Any]:
    if not telemetry.enabled() or verb in _READS or resource is None:
        return _UNTRACED
    begin = bool(resource.kind.has_status) and not subresource
    return telemetry.request(f"{verb} {where}", header, begin=begin, resource=where, object=obj)


class _Untraced:
    """Costs nothing: most requests."""

    def __enter__(self) -> telemetry.Span:
        return telemetry.NOTHING

    def __exit__(self, *details: object) -> None:
        pass


_UNTRACED: Final = _Untraced()
