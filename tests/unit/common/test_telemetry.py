"""Traces of one process: the codec, what is recorded and what not, the files."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from services.common import logs, telemetry
from services.common.settings import ServiceSettings
from services.common.telemetry_context import TraceContext, parse
from services.common.telemetry_export import FileExporter
from services.common.telemetry_tree import SpanRecord, read_spans

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("text", "context"),
    [
        pytest.param(HEADER, TraceContext(TRACE, SPAN), id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", TraceContext(TRACE, SPAN, sampled=False), id="not sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", TraceContext(TRACE, SPAN), id="further flags are for later versions"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-what", TraceContext(TRACE, SPAN), id="a later version may say more"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-what", None, id="this version may not"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", None, id="version ff is invalid"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", None, id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", None, id="no span"),
        pytest.param(HEADER.upper(), None, id="upper case"),
        pytest.param(f" {HEADER}", None, id="a blank"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="no header"),
    ],
)
def test_parse(text: str | None, context: TraceContext | None) -> None:
    assert parse(text) == context


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_written_is_read(trace: int, span: int, sampled: bool) -> None:
    context = TraceContext(f"{trace:032x}", f"{span:016x}", sampled)
    assert parse(str(context)) == context


@given(st.text())
def test_any_text_is_read_without_error(text: str) -> None:
    parse(text)


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    recorded = Recorded(tmp_path)
    recorded.start()
    yield recorded
    telemetry.shutdown()


class Recorded:
    """What this process writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(self, ratio: float = 1.0) -> None:
        telemetry.shutdown()
        settings = ServiceSettings.model_construct(
            trace_directory=str(self._directory), trace_otlp_endpoint="", trace_ratio=ratio
        )
        telemetry.configure(settings, "test", node="n1")

    def spans(self) -> dict[str, SpanRecord]:
        """All that was recorded, by name; ends tracing."""
        telemetry.shutdown()
        return {span.name: span for span in read_spans(self._directory)}


def test_nothing_happens_while_traces_are_off() -> None:
    with telemetry.request("create", HEADER, begin=True), telemetry.step("part"):
        assert telemetry.traceparent() == ""
    assert not telemetry.enabled()


def test_a_request_joins_its_callers_trace(recorded: Recorded) -> None:
    with telemetry.request("create", HEADER, begin=True, resource="things") as span:
        span.set(code=201)
        with telemetry.step("write"):
            pass
    spans = recorded.spans()
    create, write = spans["create"], spans["write"]
    assert (create.trace, create.parent, create.place) == (TRACE, SPAN, "test@n1")
    assert create.attributes == {"resource": "things", "code": 201}
    assert (write.trace, write.parent) == (TRACE, create.span)
    assert create.start <= write.start <= write.end <= create.end


@pytest.mark.parametrize(
    ("header", "begin", "ratio", "recorded_spans"),
    [
        pytest.param(None, True, 1.0, 1, id="a write begins a trace"),
        pytest.param("nonsense", True, 1.0, 1, id="an unreadable header is none"),
        pytest.param(None, True, 0.0, 0, id="unless chance says no"),
        pytest.param(HEADER, True, 0.0, 1, id="the sender has decided: traced"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", True, 1.0, 0, id="the sender has decided: not traced"),
        pytest.param(None, False, 1.0, 0, id="other requests only join"),
    ],
)
def test_where_a_trace_begins(
    recorded: Recorded, header: str | None, begin: bool, ratio: float, recorded_spans: int
) -> None:
    recorded.start(ratio)
    with telemetry.request("write", header, begin=begin):
        assert bool(telemetry.traceparent()) == bool(recorded_spans)
    assert len(recorded.spans()) == recorded_spans


def test_work_that_changed_nothing_is_not_recorded(recorded: Recorded) -> None:
    origin = parse(HEADER)
    with telemetry.resumed("looked", origin), telemetry.untraced(), telemetry.step("look"):
        pass
    with telemetry.resumed("acted", origin), telemetry.step("act"):
        pass
    with telemetry.resumed("called", origin):
        telemetry.traceparent()
    with telemetry.resumed("failed", origin) as span:
        span.fail("no")
    spans = recorded.spans()
    assert set(spans) == {"acted", "act", "called", "failed"}
    assert spans["failed"].error == "no"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(ValueError("spec.cpu: too many"), "ValueError: spec.cpu: too many", id="its kind and text"),
        pytest.param(
            grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "no answer"),
            "UNAVAILABLE: no answer",
            id="code and details of a call",
        ),
    ],
)
def test_an_exception_is_told_in_a_line(recorded: Recorded, error: Exception, told: str) -> None:
    with contextlib.suppress(type(error)), telemetry.resumed("failed", parse(HEADER)):
        raise error
    assert recorded.spans()["failed"].error == told


def test_late_work_begins_a_trace_that_goes_back_to_the_old_one(recorded: Recorded) -> None:
    with telemetry.resumed("later", parse(HEADER), join=False), telemetry.step("act"):
        pass
    later = recorded.spans()["later"]
    assert later.trace != TRACE
    assert (later.parent, later.links) == ("", (TRACE,))


async def test_a_task_that_outlives_its_span_is_no_part_of_it(recorded: Recorded) -> None:
    over = asyncio.Event()

    async def outlive() -> str:
        await over.wait()
        with telemetry.step("too late"):
            return telemetry.traceparent()

    with telemetry.request("write", HEADER):
        task = asyncio.create_task(outlive())
        await asyncio.sleep(0)
    over.set()
    assert await task == ""
    assert set(recorded.spans()) == {"write"}


@pytest.mark.parametrize(
    ("settle", "error"),
    [
        pytest.param(None, "ValueError: bad", id="an exception is the outcome"),
        pytest.param("", "", id="a settled success stays one"),
        pytest.param("answered 500", "answered 500", id="a settled failure keeps its words"),
    ],
)
def test_outcome(recorded: Recorded, settle: str | None, error: str) -> None:
    def work() -> None:
        with telemetry.request("write", HEADER) as span:
            if settle is not None:
                span.settle(settle)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        work()
    assert recorded.spans()["write"].error == error


def test_log_lines_carry_the_trace(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", service="test")
    log = logs.get_logger("test")
    try:
        with structlog.contextvars.bound_contextvars(object="default/a"), telemetry.request("write", HEADER):
            log.info("within")
        log.info("without")
    finally:
        structlog.contextvars.clear_contextvars()
    within, without = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (within["trace_id"], within["object"]) == (TRACE, "default/a")
    assert "trace_id" not in without


@pytest.mark.parametrize("endpoint", ["collector:4317", "http://collector", "grpc://collector:4317"])
def test_a_wrong_endpoint_is_named(endpoint: str) -> None:
    settings = ServiceSettings.model_construct(trace_directory="", trace_otlp_endpoint=endpoint, trace_ratio=1.0)
    with pytest.raises(ValueError, match=r"trace-otlp-endpoint.*is not http"):
        telemetry.configure(settings, "test")
    assert not telemetry.enabled()


def test_files_are_bounded(tmp_path: Path, recorded: Recorded) -> None:
    exporter = FileExporter(tmp_path / "small", "test", limit=1)
    for number in range(5):
        with telemetry.request(f"write {number}", HEADER) as span:
            pass
        exporter.export([span._span])
    assert [span.name for span in read_spans(tmp_path / "small")] == ["write 4"]
