"""Logs are events: a constant message in the past tense plus fields, one JSON object a line.

    log = get_logger(__name__)
    log.info("route added", vni=100, prefix="10.0.0.1/32")

Fields bound with `structlog.contextvars.bind_contextvars` (object, node) appear on every line of the task, and the
trace that it belongs to as `trace_id`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from services.common.telemetry_context import running


def configure(level: str = "info", log_format: str = "json", **fields: Any) -> None:
    """Sets up logging for the process; `fields` (service=..., node=...) stand on every line.

    Raises ValueError for an unknown level or format.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} is not one of debug, info, warning, error")
    if log_format not in ("json", "text"):
        raise ValueError(f"log format {log_format!r} is not json or text")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**fields)


def _add_trace(logger: Any, method: str, event: Any) -> Any:
    """The trace that the line belongs to."""
    span = running()
    if span is not None:
        event["trace_id"] = span.context.trace_id
    return event


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry the module's name."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
