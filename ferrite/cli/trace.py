"""`ferrite trace machine/NAME`: what an order set in motion, process by process, as a tree with times."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from services.common.telemetry_tree import Node, SpanRecord, read_spans, traces_of, trees

MILLISECOND = 1_000_000
TRACES = "traces"
"""Where a development cluster's processes write theirs, below its state directory."""


def trace(
    what: Annotated[str, typer.Argument(help="KIND/NAME, for example machine/vm-a; or a trace id")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="its namespace")] = "default",
    state: Annotated[Path, typer.Option(help="state directory of the cluster, or one with trace files")] = Path(
        "build/dev"
    ),
    list_all: Annotated[bool, typer.Option("--list", help="list the object's traces, the newest first")] = False,
) -> None:
    """Prints the trace of the latest order about an object: who did what after which, and how long it took.

    Offsets are from the trace's beginning, durations those of the span itself.
    """
    console = Console()
    spans = _spans(state)
    kind, slash, name = what.partition("/")
    found = [what] if not slash else traces_of(spans, _plural(kind), f"{namespace}/{name}")
    # Of a cluster-scoped object.
    found = found or traces_of(spans, _plural(kind), f"/{name}")
    by_trace = {wanted: [span for span in spans if span.trace == wanted] for wanted in found}
    if not any(by_trace.values()):
        console.print(f"no trace of {what} in {state}", style="red", highlight=False)
        raise typer.Exit(1)
    for wanted in found if list_all else found[:1]:
        roots = trees(by_trace[wanted])
        if list_all:
            console.print(f"{wanted}  {len(by_trace[wanted]):4} spans  {_line(roots[0], roots[0].record.start)}")
        else:
            console.print(render(wanted, roots), highlight=False)


def render(trace_id: str, roots: list[Node]) -> Tree:
    """The tree as it is printed; `roots` is not empty."""
    begin, end = roots[0].record.start, max(root.end for root in roots)
    count = sum(map(_size, roots))
    tree = Tree(f"[bold]trace {trace_id}[/]  {count} steps, {_time(end - begin)}")
    for root in roots:
        _grow(tree, root, begin)
    return tree


def _grow(tree: Tree, node: Node, begin: int) -> None:
    branch = tree.add(_line(node, begin))
    for child in node.children:
        _grow(branch, child, begin)


def _line(node: Node, begin: int) -> str:
    span = node.record
    timed = node.caller or span
    parts = [
        f"[cyan]{'+' + _time(timed.start - begin):>9}[/]",
        f"[green]{_time(timed.end - timed.start):>8}[/]",
        f"[bold]{escape(span.place)}[/]",
        escape(span.name),
        *(escape(text) for text in _details(span)),
    ]
    if span.error:
        parts.append(f"[red]{escape(span.error)}[/]")
    if span.links:
        parts.append(f"[dim]goes back to {', '.join(span.links)}[/]")
    return "  ".join(parts)


def _details(span: SpanRecord) -> list[str]:
    attributes = span.attributes
    found = [str(attributes["object"])] if attributes.get("object") not in (None, "/") else []
    for name in ("result", "waiting"):
        value = attributes.get(name)
        if value and value != "done":
            found.append(f"({value})")
    if int(attributes.get("code", 200)) >= 300:
        found.append(f"[{attributes['code']}]")
    return found


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
