"""Rows as text. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Final

from services.dpservice.client.render import table

FORMATS: Final = ("human", "table", "csv", "json")


def shown(rows: Sequence[dict[str, Any]], form: str) -> str:
    """All rows in a format of FORMATS."""
    if form == "json":
        return "[" + ",\n ".join(json.dumps(row, default=str) for row in rows) + "]"
    if form == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([list(rows[0]) if rows else [], *(map(_cell, row.values()) for row in rows)])
        return out.getvalue().rstrip("\n")
    if form == "table":
        return table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows]) if rows else ""
    return "\n".join("  ".join(f"{name}: {value}" for name, value in row.items() if value is not None) for row in rows)


def _cell(value: Any) -> Any:
    return "" if value is None else value
