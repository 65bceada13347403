"""Traces read back from the files of `telemetry_export`: which span caused which. Pure but for `read_spans`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True)
class SpanRecord:
    """A span as it was written; times are Unix nanoseconds. `error` is empty for a success."""

    trace: str
    span: str
    parent: str
    name: str
    kind: str
    service: str
    node: str
    start: int
    end: int
    attributes: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    links: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Which process it was."""
        return f"{self.service}@{self.node}" if self.node else self.service


@dataclass
class Node:
    """A span with what it caused, by start. `caller` is the client's span of a call that this span answered."""

    record: SpanRecord
    caller: SpanRecord | None = None
    children: list[Node] = field(default_factory=list)

    @property
    def end(self) -> int:
        """When the last thing that it caused had ended."""
        return max([self.record.end, *(child.end for child in self.children)])


def parse_span(line: bytes) -> SpanRecord | None:
    """One line; None for one that is cut off or is none."""
    try:
        found = orjson.loads(line)
        return SpanRecord(
            trace=found["trace"],
            span=found["span"],
            parent=found["parent"],
            name=found["name"],
            kind=found["kind"],
            service=found["service"],
            node=found["node"],
            start=int(found["start"]),
            end=int(found["end"]),
            attributes=found["attributes"],
            error=found.get("error", ""),
            links=tuple(found.get("links", ())),
        )
    except (ValueError, KeyError, TypeError):
        return None


def read_spans(directory: Path) -> Iterator[SpanRecord]:
    """All spans in the files of a directory. Raises OSError."""
    for path in sorted(directory.iterdir()):
        if path.name.endswith((".jsonl", ".jsonl.1")):
            with path.open("rb") as lines:
                yield from filter(None, map(parse_span, lines))


def trees(spans: Iterable[SpanRecord]) -> list[Node]:
    """The roots of one trace, by start. A span whose parent was not recorded (a killed process) is a root, too."""
    nodes = {span.span: Node(span) for span in spans}
    roots: list[Node] = []
    for node in nodes.values():
        parent = nodes.get(node.record.parent)
        (roots if parent is None else parent.children).append(node)
    return _ordered([_joined(root) for root in roots])


def traces_of(spans: Iterable[SpanRecord], resource: str, names: Collection[str]) -> list[str]:
    """Traces in which an object was written, the newest first, those that began with it before all others.

    `resource` is a plural with or without its group, `names` are those (namespace/name) that mean the object.
    """
    began: dict[str, int] = {}
    touched: dict[str, int] = {}
    for span in spans:
        attributes = span.attributes
        if attributes.get("object") not in names or "generation" not in attributes:
            continue
        named = str(attributes.get("resource", "")).partition("/")[0]
        if resource in (named, named.partition(".")[0]):
            found = touched if span.parent else began
            found[span.trace] = max(found.get(span.trace, 0), span.start)
    later = {trace: at for trace, at in touched.items() if trace not in began}
    return sorted(began, key=lambda trace: -began[trace]) + sorted(later, key=lambda trace: -later[trace])


def _joined(node: Node) -> Node:
    """Both sides of a call as one: the server's span stands for it."""
    node.children = _ordered([_joined(child) for child in node.children])
    if node.record.kind == "client" and len(node.children) == 1:
        answered = node.children[0]
        if answered.record.kind == "server":
            answered.caller = node.record
            return answered
    return node


def _ordered(nodes: list[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: node.record.start)
