"""Printer columns: the meta.k8s.io/v1 Table that `kubectl get` shows. Name comes first and Age last."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from services.apimachinery.kinds import Kind
from services.apimachinery.schema.hooks import Renderer
from services.apimachinery.schema.renderers import RENDERERS
from services.apimachinery.schema.schema import Tree, message_schema
from services.apimachinery.schema.times import parse_time

_UNKNOWN_AGE: Final = "<unknown>"
_MISSING: Final = {"string": "", "date": _UNKNOWN_AGE}
_SHOWN: Final = {"date": ("string", "date"), "duration": ("string", "")}
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\*|\d+)\]")

Cell = Callable[[Tree, datetime], Any]


@cache
def columns_of(kind: Kind[Any]) -> list[dict[str, Any]]:
    """The Table's columnDefinitions. Shared: not to be changed by callers."""
    metadata = {name: member.description for name, member in _metadata_fields(kind).items()}
    name = _definition("Name", "string", "name", metadata.get("name", ""), 0)
    age = _definition("Age", "string", "date", metadata.get("creationTimestamp", ""), 0)
    own = []
    for column in kind.rules.columns:
        kind_of_value = column.type or "string"
        shown, form = _SHOWN.get(kind_of_value, (kind_of_value, ""))
        own.append(_definition(column.name, shown, form, column.path or column.renderer, column.priority))
    return [name, *own, age]


def cells_of(kind: Kind[Any], tree: Tree, now: datetime, renderers: Mapping[str, Renderer] | None = None) -> list[Any]:
    """The cells of one object's row. KeyError for a column whose renderer is registered nowhere."""
    metadata = tree.get("metadata", {})
    row = [metadata.get("name", "")]
    for column in kind.rules.columns:
        value = _value(column, tree, renderers or {})
        if value is None or value in ("", [], {}):
            value = column.missing or _MISSING.get(column.type or "string")
        elif column.type == "date":
            value = age(value, now)
        elif column.type == "duration":
            value = human_duration(value)
        row.append(value)
    row.append(age(metadata.get("creationTimestamp"), now))
    return row


def table(kind: Kind[Any], rows: Iterable[tuple[list[Any], Any]], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A Table; each row is its cells and the object that the client asked for: whole, PartialObjectMetadata or None."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(metadata),
        "columnDefinitions": columns_of(kind),
        "rows": [{"cells": cells} | ({"object": obj} if obj is not None else {}) for cells, obj in rows],
    }


def missing_renderers(kind: Kind[Any], renderers: Mapping[str, Renderer]) -> list[str]:
    """Names of renderers that the kind's columns need and nobody has: to be refused when a server starts."""
    return [
        each.renderer
        for each in kind.rules.columns
        if each.renderer and each.renderer not in renderers.keys() | RENDERERS.keys()
    ]


def age(timestamp: str | None, now: datetime) -> str:
    """The time since an RFC 3339 time, in words."""
    if not timestamp:
        return _UNKNOWN_AGE
    since = now.astimezone(UTC) - datetime.fromtimestamp(parse_time(timestamp)[0], UTC)
    return human_duration(since.total_seconds())


def human_duration(seconds: float) -> str:
    """Kubernetes' short form, two units while the first is small: 45s, 5m3s, 3h12m, 2d4h, 120d, 3y12d."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    total = max(total, 0)
    minutes, hours, days, years = total // 60, total // 3600, total // 86400, total // (86400 * 365)
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return _pair(minutes, "m", total % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _pair(days, "d", hours % 24, "h")
    if years < 2:
        return f"{days}d"
    return _pair(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def values_at(tree: Any, path: str) -> list[Any]:
    """What a JSON path such as `.spec.ips[*].ip` leads to; empty when it leads nowhere."""
    found = [tree]
    for name, index in _STEP.findall(path):
        if name:
            found = [each[name] for each in found if isinstance(each, dict) and name in each]
        elif index == "*":
            found = [item for each in found if isinstance(each, list) for item in each]
        else:
            found = [each[int(index)] for each in found if isinstance(each, list) and int(index) < len(each)]
    return [each for each in found if each is not None]


def _value(column: Any, tree: Tree, renderers: Mapping[str, Renderer]) -> Any:
    if column.renderer:
        if column.renderer in renderers:
            return renderers[column.renderer](tree)
        return RENDERERS[column.renderer](tree, values_at(tree, column.path))
    values = values_at(tree, column.path)
    if not values:
        return None
    if "[*]" in column.path or isinstance(values[0], list):
        items = values[0] if isinstance(values[0], list) else values
        return ",".join(str(item) for item in items)
    if isinstance(values[0], bool):
        return values[0] if column.type == "boolean" else str(values[0])
    return values[0]


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def _definition(name: str, kind: str, form: str, description: str, priority: int) -> dict[str, Any]:
    return {"name": name, "type": kind, "format": form, "description": description, "priority": priority}


def _metadata_fields(kind: Kind[Any]) -> Mapping[str, Any]:
    member = kind.message.DESCRIPTOR.fields_by_name.get("metadata")
    return message_schema(member.message_type).fields if member is not None and member.message_type else {}
