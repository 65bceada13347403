"""The annotation that carries a trace from a write to those who act on it."""

from __future__ import annotations

from typing import Any

import pytest

from protos.compute.v1alpha1.machine_pb2 import Machine
from services.apimachinery.client.objects import Key
from services.apimachinery.tracing import ANNOTATION, JOIN_SECONDS, Origins, restore
from services.common.telemetry_context import parse

OLD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NEW = "00-1bf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KEY = Key("default", "a")


@pytest.mark.parametrize(
    ("written", "stored", "result"),
    [
        pytest.param({}, {ANNOTATION: OLD}, {ANNOTATION: OLD}, id="a replace without it gets it back"),
        pytest.param({ANNOTATION: NEW}, {ANNOTATION: OLD}, {ANNOTATION: OLD}, id="what a client says is ignored"),
        pytest.param({ANNOTATION: NEW}, {}, None, id="a client can't add it"),
        pytest.param({"a": "1"}, {ANNOTATION: OLD}, {"a": "1", ANNOTATION: OLD}, id="others stay"),
        pytest.param({"a": "1", ANNOTATION: NEW}, {}, {"a": "1"}, id="only it is taken out"),
        pytest.param({}, {}, {}, id="nothing to do"),
    ],
)
def test_restore(written: dict[str, str], stored: dict[str, str], result: dict[str, str] | None) -> None:
    metadata: dict[str, Any] = {"name": "a", "annotations": written}
    restore(metadata, {"annotations": stored} if stored else {})
    assert metadata.get("annotations") == result


def machine(header: str) -> Machine:
    found = Machine()
    found.metadata.annotations[ANNOTATION] = header
    return found


def test_a_trace_is_joined_while_it_is_young() -> None:
    now = 1000.0
    origins = Origins(lambda: now)
    assert origins.of(KEY)[0] is None
    origins.note(KEY, machine(OLD))
    assert origins.of(KEY) == (parse(OLD), True)
    now += JOIN_SECONDS
    origins.note(KEY, machine(OLD))
    assert origins.of(KEY) == (parse(OLD), False), "seeing it again does not make it younger"
    origins.note(KEY, machine(NEW))
    assert origins.of(KEY) == (parse(NEW), True)
    origins.note(KEY, None)
    assert origins.of(KEY)[0] is None
