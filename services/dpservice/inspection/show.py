"""Rows as text. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from services.dpservice.client.render import table

FORMATS: Final = ("human", "table", "csv", "json")


def lines(rows: Iterable[dict[str, Any]], form: str) -> Iterator[str]:
    """The rows in a format of FORMATS. Only for a table all of them are kept: there may be a million."""
    if form == "table":
        kept = list(rows)
        if kept:
            yield table(list(kept[0]), [[_cell(value) for value in row.values()] for row in kept])
    elif form == "csv":
        for number, row in enumerate(rows):
            if not number:
                yield _separated(row)
            yield _separated(map(_cell, row.values()))
    elif form == "json":
        yield from _listed(json.dumps(row, default=str) for row in rows)
    else:
        for row in rows:
            yield "  ".join(f"{name}: {value}" for name, value in row.items() if value is not None)


def _listed(items: Iterable[str]) -> Iterator[str]:
    """A JSON list, an item a line; the comma stands in front of all but the first."""
    mark = "["
    for item in items:
        yield mark + item
        mark = ","
    yield "[]" if mark == "[" else "]"


def _separated(values: Iterable[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(values)
    return out.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else value
