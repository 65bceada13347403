"""`ferrite trace machine/NAME`: what an order set in motion, process by process, as a tree with times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.common.telemetry_tree import Node, SpanRecord, read_spans, traces_of, trees

MILLISECOND: Final = 1_000_000
TRACES: Final = "traces"
"""Where a development cluster's processes write theirs, below its state directory."""

_DETAILS: Final = ("KV/", "create subjectaccessreviews", "create tokenreviews")
"""Beginnings of the names of steps that belong to every write: shown on demand."""
_OWN_GROUPS: Final = ".ironcore.dev"
_PIPED_WIDTH: Final = 250


def trace(
    what: Annotated[str, typer.Argument(help="KIND/NAME, for example machine/vm-a; or a trace id")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="its namespace")] = "default",
    state: Annotated[Path, typer.Option(help="state directory of the cluster, or one with trace files")] = Path(
        "build/dev"
    ),
    list_all: Annotated[bool, typer.Option("--list", help="list the object's traces, the newest first")] = False,
    everything: Annotated[bool, typer.Option("--all", help="also calls of etcd and questions about rights")] = False,
) -> None:
    """Prints the trace of the latest order about an object: who did what after which, and how long it took.

    The first column is the time since the order, the second one that of the step itself.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    spans = _spans(state)
    kind, slash, name = what.partition("/")
    # The second is what a cluster-scoped object is called.
    found = [what] if not slash else traces_of(spans, _plural(kind), {f"{namespace}/{name}", f"/{name}"})
    by_trace = {wanted: [span for span in spans if span.trace == wanted] for wanted in found}
    if not any(by_trace.values()):
        console.print(f"no trace of {what} in {state}", style="red", highlight=False)
        raise typer.Exit(1)
    if list_all:
        for wanted in found:
            console.print(summary(wanted, trees(by_trace[wanted])), highlight=False, no_wrap=True, overflow="ellipsis")
        return
    roots = trees(by_trace[found[0]])
    console.print(summary(found[0], roots), highlight=False, no_wrap=True, overflow="ellipsis")
    console.print(table_of(roots, everything=everything))


def summary(trace_id: str, roots: list[Node]) -> Text:
    """A trace in one line."""
    begin, end = roots[0].record.start, max(root.end for root in roots)
    text = Text.assemble((trace_id, "bold"), f"  {sum(map(_size, roots))} steps, {_time(end - begin)}  ")
    return text.append_text(_what(roots[0].record))


def table_of(roots: list[Node], *, everything: bool = False) -> Table:
    """The steps as lines: when, how long, where, and what as a tree. `roots` is not empty."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="cyan", no_wrap=True)
    table.add_column(justify="right", style="green", no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(ratio=1)  # to rich, a column that may wrap is one that may be narrowed: an error is long
    begin = roots[0].record.start
    for root in roots:
        for guide, node in _lines(root, "", "", everything):
            timed = node.caller or node.record
            what = Text(guide, style="dim", no_wrap=True, overflow="ellipsis").append_text(_what(node.record))
            table.add_row(f"+{_time(timed.start - begin)}", _time(timed.end - timed.start), node.record.place, what)
    return table


def _lines(node: Node, first: str, rest: str, everything: bool) -> Iterator[tuple[str, Node]]:
    """Each step with the part of the tree to the left of it."""
    yield first, node
    shown = [child for child in node.children if everything or not child.record.name.startswith(_DETAILS)]
    for number, child in enumerate(shown, 1):
        last = number == len(shown)
        yield from _lines(child, rest + ("└ " if last else "├ "), rest + ("  " if last else "│ "), everything)


def _what(span: SpanRecord) -> Text:
    attributes = span.attributes
    text = Text(span.name.replace(_OWN_GROUPS, ""), style="default")
    if attributes.get("object") not in (None, "/"):
        text.append(f" {attributes['object']}")
    for name in ("result", "waiting"):
        if attributes.get(name, "done") != "done":
            text.append(f" {attributes[name]}", style="yellow")
    if span.error:
        text.append(f" {' '.join(span.error.split())}", style="red")
    elif int(attributes.get("code", 0)) >= 300:
        text.append(f" {attributes['code']}", style="yellow")
    if span.links:
        text.append(f" goes back to {', '.join(span.links)}", style="dim")
    return text


def _size(node: Node) -> int:
    return 1 + sum(map(_size, node.children))


def _time(nanoseconds: int) -> str:
    milliseconds = nanoseconds / MILLISECOND
    return f"{milliseconds / 1000:.2f} s" if milliseconds >= 1000 else f"{milliseconds:.1f} ms"


def _plural(kind: str) -> str:
    """A kind's resource: `machine`, `machines` and `machines.compute.ironcore.dev` are all understood."""
    name, dot, group = kind.lower().partition(".")
    if not name.endswith("s"):
        name += "s"
    elif name.endswith("class"):
        name += "es"
    return name + dot + group


def _spans(state: Path) -> list[SpanRecord]:
    directory = state / TRACES if (state / TRACES).is_dir() else state
    try:
        return list(read_spans(directory))
    except OSError as error:
        raise typer.BadParameter(f"{directory}: {error.strerror}") from None
