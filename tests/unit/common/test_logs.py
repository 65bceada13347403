from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from services.common import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_an_event_with_fields_of_call_context_and_process(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", service="net", node="n1")
    with structlog.contextvars.bound_contextvars(object="default/vm"):
        logs.get_logger("a.b").info("route added", vni=7, prefix="10.0.0.0/8")
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "route added",
        "level": "info",
        "service": "net",
        "node": "n1",
        "object": "default/vm",
        "vni": 7,
        "prefix": "10.0.0.0/8",
    }


def test_lines_of_libraries_look_alike(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", service="net")
    logging.getLogger("some.library").warning("lost %s", "it")
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["service"]) == ("lost it", "warning", "net")


def test_less_severe_lines_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    logs.get_logger("a").info("too quiet")
    logs.get_logger("a").error("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_traceback_shows_no_values_of_variables(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", log_format)
    password = "hunter" + "2"
    try:
        raise ValueError(f"wrong length {len(password)}")
    except ValueError:
        logs.get_logger("a").exception("login failed")
    printed = capsys.readouterr().err
    assert "wrong length 7" in printed
    assert "hunter2" not in printed


@pytest.mark.parametrize(("level", "log_format"), [("loud", "json"), ("info", "xml")])
def test_unknown_words_are_refused(level: str, log_format: str) -> None:
    with pytest.raises(ValueError, match=r"loud|xml"):
        logs.configure(level, log_format)
