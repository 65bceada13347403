"""The OpenTelemetry side of traces: sampling, OTLP, and files of JSON lines. Imported only when traces are on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from services.common.settings import ServiceSettings
from services.common.telemetry_context import TraceContext

FILE_BYTES: Final = 16 * 1024 * 1024
"""A service's file is put aside (`.1`) when it is larger: so much twice is kept."""

FILE_DELAY_MS: Final = 200
"""Spans are written together, soon enough for a person who waits for them."""


class FileExporter(SpanExporter):
    """Appends spans to `DIRECTORY/SERVICE.jsonl`, one JSON object a line.

    Several processes may share a file: it is opened anew for each batch, and a batch is one append.
    """

    def __init__(self, directory: Path, service: str, limit: int = FILE_BYTES) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / f"{service}.jsonl"
        self._limit = limit

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Writes a batch; a full disk loses it."""
        lines = b"".join(orjson.dumps(line_of(span), option=orjson.OPT_APPEND_NEWLINE) for span in spans)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(descriptor, lines)
                if os.fstat(descriptor).st_size > self._limit:
                    os.replace(self._path, self._path.with_suffix(".jsonl.1"))
            finally:
                os.close(descriptor)
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


class Pipeline:
    """A process's spans on their way to the exporters that the settings name."""

    def __init__(self, settings: ServiceSettings, service: str, fields: Mapping[str, str]) -> None:
        resource = Resource({SERVICE_NAME: service, "process.pid": os.getpid(), **fields})
        sampler = ParentBased(TraceIdRatioBased(settings.trace_ratio))
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        if settings.trace_directory:
            exporter = FileExporter(Path(settings.trace_directory), service)
            self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=FILE_DELAY_MS))
        if settings.trace_otlp_endpoint:
            self._provider.add_span_processor(BatchSpanProcessor(_otlp(settings.trace_otlp_endpoint)))
        self._tracer = self._provider.get_tracer("ferrite")

    def start(
        self,
        name: str,
        kind: str,
        parent: TraceContext | None,
        attributes: Mapping[str, Any],
        links: Sequence[TraceContext],
    ) -> tuple[Any, TraceContext]:
        """A new span and how others name it."""
        span = self._tracer.start_span(
            name,
            context=Context() if parent is None else set_span_in_context(NonRecordingSpan(_foreign(parent)), Context()),
            kind=SpanKind[kind.upper()],
            attributes=dict(attributes),
            links=[Link(_foreign(link)) for link in links],
        )
        made = span.get_span_context()
        return span, TraceContext(f"{made.trace_id:032x}", f"{made.span_id:016x}", made.trace_flags.sampled)

    @staticmethod
    def mark_failed(span: Any, text: str) -> None:
        """Marks a span as failed."""
        span.set_status(Status(StatusCode.ERROR, text))

    def close(self) -> None:
        """Hands out what is left. Blocks."""
        self._provider.shutdown()


def line_of(span: ReadableSpan) -> dict[str, Any]:
    """A span as a line of a file; times are Unix nanoseconds."""
    context, parent = span.get_span_context(), span.parent
    assert context is not None  # spans that are handed out have one
    resource = dict(span.resource.attributes)
    line: dict[str, Any] = {
        "trace": f"{context.trace_id:032x}",
        "span": f"{context.span_id:016x}",
        "parent": f"{parent.span_id:016x}" if parent is not None else "",
        "name": span.name,
        "kind": span.kind.name.lower(),
        "service": resource.get(SERVICE_NAME, ""),
        "node": resource.get("node") or resource.get("pool", ""),
        "start": span.start_time,
        "end": span.end_time,
        "attributes": dict(span.attributes or {}),
    }
    if span.status.status_code is StatusCode.ERROR:
        line["error"] = span.status.description or "failed"
    if span.links:
        line["links"] = [f"{link.context.trace_id:032x}" for link in span.links]
    return line


def _foreign(context: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=True, trace_flags=flags)


def _otlp(endpoint: str) -> SpanExporter:
    """Raises ValueError for an endpoint that is none."""
    # Loaded when needed: it takes half a second.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port is None:
        raise ValueError(f"trace-otlp-endpoint: {endpoint!r} is not http://host:port or https://host:port")
    return OTLPSpanExporter(endpoint=endpoint, insecure=parts.scheme == "http", timeout=5)
