from __future__ import annotations

from typing import Any

import pytest

from services.apimachinery.server.events import from_core, to_core
from services.apimachinery.server.metadata import count_generation, generated_name, is_held, is_same
from services.apimachinery.server.storage import copied


def machine(**rest: Any) -> dict[str, Any]:
    return {"kind": "Machine", "metadata": {"name": "m", "generation": 3}, "spec": {"power": "On"}, **rest}


@pytest.mark.parametrize(
    ("change", "generation"),
    [
        pytest.param({}, 3, id="nothing"),
        pytest.param({"status": {"state": "Running"}}, 3, id="the status"),
        pytest.param({"metadata": {"name": "m", "generation": 3, "labels": {"a": "b"}}}, 3, id="labels"),
        pytest.param({"spec": {"power": "Off"}}, 4, id="the spec"),
        pytest.param({"data": {"a": "b"}}, 4, id="content beside a spec"),
    ],
)
def test_generation(change: dict[str, Any], generation: int) -> None:
    new = machine(**change)
    count_generation(new, machine())
    assert new["metadata"]["generation"] == generation


@pytest.mark.parametrize(
    ("metadata", "same"),
    [
        pytest.param({"resourceVersion": "9"}, True, id="version"),
        pytest.param({"managedFields": [{"manager": "a", "time": "2"}]}, True, id="time of a manager"),
        pytest.param({"managedFields": [{"manager": "b", "time": "1"}]}, False, id="manager"),
        pytest.param({"labels": {"a": "b"}}, False, id="label"),
    ],
)
def test_writes_that_change_nothing(metadata: dict[str, Any], same: bool) -> None:
    old = {"metadata": {"name": "m", "managedFields": [{"manager": "a", "time": "1"}]}, "spec": {}}
    new = {"metadata": {**old["metadata"], **metadata}, "spec": {}}
    assert is_same(new, old) is same


@pytest.mark.parametrize(
    ("tree", "held"),
    [
        pytest.param({"kind": "Machine", "metadata": {}}, False, id="free"),
        pytest.param({"kind": "Machine", "metadata": {"finalizers": ["a/b"]}}, True, id="finalizer"),
        pytest.param(
            {"kind": "Namespace", "metadata": {}, "spec": {"finalizers": ["kubernetes"]}}, True, id="namespace"
        ),
        pytest.param({"kind": "Machine", "metadata": {}, "spec": {"finalizers": ["x"]}}, False, id="only namespaces"),
    ],
)
def test_what_holds_a_deleted_object(tree: dict[str, Any], held: bool) -> None:
    assert is_held(tree) is held


def test_generated_names_fit_a_label() -> None:
    name = generated_name("x" * 80)
    assert (len(name), name[:58]) == (63, "x" * 58)
    assert generated_name("a-") != generated_name("a-")


def test_an_event_survives_both_forms() -> None:
    newer = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "eventTime": "2026-01-02T03:04:05.000006Z",
        "regarding": {"kind": "Machine", "name": "m"},
        "note": "it runs",
        "reason": "Started",
        "reportingController": "test.dev/x",
        "reportingInstance": "x-1",
        "deprecatedCount": 3,
    }
    core = to_core(newer)
    assert (core["involvedObject"]["name"], core["message"], core["count"]) == ("m", "it runs", 3)
    assert from_core({**core, "firstTimestamp": None, "source": {}}) == newer


def test_copies_share_nothing() -> None:
    tree = {"a": [{"b": 1}], "c": {"d": [1, 2]}}
    copy = copied(tree)
    copy["a"][0]["b"] = 2
    copy["c"]["d"].append(3)
    assert tree == {"a": [{"b": 1}], "c": {"d": [1, 2]}}
