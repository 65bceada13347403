"""Trees of spans, and the pages that show metrics and traces."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from ferrite.cli.trace import _plural, table_of
from services.common.telemetry_tree import Node, SpanRecord, parse_span, traces_of, trees
from tools import metrics_reference

MS = 1_000_000


def span(
    name: str, parent: str = "", *, at: int = 0, trace: str = "t", kind: str = "internal", **rest: Any
) -> SpanRecord:
    """A span whose id is its name; `at` in ms, it takes 1 ms."""
    attributes = rest.pop("attributes", {})
    return SpanRecord(trace, name, parent, name, kind, rest.pop("service", "s"), "", at * MS, (at + 1) * MS, attributes)


def shape(nodes: list[Node]) -> list[Any]:
    return [[node.record.name, *shape(node.children)] if node.children else node.record.name for node in nodes]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([span("b", "a", at=1), span("a")], [["a", "b"]], id="in any order"),
        pytest.param(
            [span("a"), span("c", "a", at=2), span("b", "a", at=1)], [["a", "b", "c"]], id="children by start"
        ),
        pytest.param([span("b", "lost"), span("a", at=-1)], ["a", "b"], id="a lost parent makes a root"),
        pytest.param(
            [span("a"), span("call", "a", kind="client"), span("answer", "call", kind="server")],
            [["a", "answer"]],
            id="both sides of a call are one",
        ),
        pytest.param([span("a"), span("call", "a", kind="client")], [["a", "call"]], id="a callee that does not trace"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_trees(spans: list[SpanRecord], expected: list[Any]) -> None:
    assert shape(trees(spans)) == expected


def test_a_call_is_timed_by_its_caller() -> None:
    [root] = trees([span("a"), span("call", "a", at=3, kind="client"), span("answer", "call", at=4, kind="server")])
    [answer] = root.children
    assert answer.caller is not None
    assert answer.caller.name == "call"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'{"trace": "t", "span"', id="cut off"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"trace": "t"}', id="fields are missing"),
        pytest.param(b"\xff", id="no text"),
    ],
)
def test_a_line_that_is_no_span_is_left_out(line: bytes) -> None:
    assert parse_span(line) is None


def written(trace: str, obj: str, *, parent: str = "", at: int = 0, resource: str = "machines.compute.x") -> SpanRecord:
    return span(
        f"{trace}{at}", parent, trace=trace, at=at, attributes={"object": obj, "resource": resource, "generation": 1}
    )


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([written("old", "n/a"), written("new", "n/a", at=5)], ["new", "old"], id="the newest first"),
        pytest.param(
            [written("own", "n/a"), written("other", "n/a", parent="p", at=5)],
            ["own", "other"],
            id="own ones before others",
        ),
        pytest.param([written("t", "n/b"), written("t", "n/a", resource="volumes.storage.x")], [], id="other objects"),
        pytest.param(
            [span("x", attributes={"object": "n/a", "resource": "machines.compute.x"})], [], id="mere mentions"
        ),
    ],
)
def test_traces_of(spans: list[SpanRecord], expected: list[str]) -> None:
    assert traces_of(spans, "machines", {"n/a"}) == expected
    assert traces_of(spans, "machines.compute.x", {"n/a"}) == expected


@pytest.mark.parametrize(
    ("kind", "plural"),
    [
        ("machine", "machines"),
        ("Machines", "machines"),
        ("machineclass", "machineclasses"),
        ("networkinterface.networking.ironcore.dev", "networkinterfaces.networking.ironcore.dev"),
    ],
)
def test_kinds_are_understood(kind: str, plural: str) -> None:
    assert _plural(kind) == plural


def test_the_tree_is_printed_with_times() -> None:
    spans = [
        span("create machines.compute.ironcore.dev", service="core-apiserver"),
        span("KV/Txn", "create machines.compute.ironcore.dev", service="core-apiserver"),
        span("reconcile scheduler", "create machines.compute.ironcore.dev", at=20, service="core-controllers"),
        span("bind", "reconcile scheduler", at=1020, service="core-apiserver"),
    ]
    out = io.StringIO()
    Console(file=out, width=100).print(table_of(trees(spans)))
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["+0.0", "ms", "1.0", "ms", "core-apiserver", "create", "machines.compute"],
        ["+20.0", "ms", "1.0", "ms", "core-controllers", "└", "reconcile", "scheduler"],
        ["+1.02", "s", "1.0", "ms", "core-apiserver", "└", "bind"],
    ]


def test_a_long_error_is_one_line_and_leaves_the_times_readable() -> None:
    out = io.StringIO()
    Console(file=out, width=60).print(table_of(trees([replace(span("call", service="s"), error="no\n answer " * 50)])))
    assert [line.split()[:8] for line in out.getvalue().splitlines()] == [
        ["+0.0", "ms", "1.0", "ms", "s", "call", "no", "answer"]
    ]


def test_metrics_page_is_current() -> None:
    assert metrics_reference.main(["--check"]) == 0, "run make docs and commit the result"


def test_metrics_are_named_alike() -> None:
    every = [row for listed in metrics_reference.rows().values() for row in listed]
    # The last two are the original's names for what dpservice counts.
    assert [row.name for row in every if not row.name.startswith(("ferrite_", "dpdk_", "dps_"))] == []
    assert [row.name for row in every if not row.help.endswith(".")] == []
