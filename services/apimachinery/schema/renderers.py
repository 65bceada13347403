"""Cells of printer columns that a JSON path can't say, for Kubernetes' built-in kinds and for what all kinds share.

A renderer gets the object and what the column's path leads to; None prints the column's `missing`. Renderers that know
a service's own kinds belong into its `KindHooks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from services.apimachinery.schema.schema import Tree
from services.apimachinery.schema.times import parse_time

PathRenderer = Callable[[Tree, list[Any]], Any]


def label_selector_text(selector: Tree) -> str:
    """A LabelSelector in kubectl's notation; `<none>` when it has no requirement."""
    terms = [f"{key}={value}" for key, value in sorted(selector.get("matchLabels", {}).items())]
    for expression in selector.get("matchExpressions", []):
        key, values = expression.get("key", ""), ",".join(sorted(expression.get("values", [])))
        terms.append(
            {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "DoesNotExist": f"!{key}"}.get(
                expression.get("operator", ""), key
            )
        )
    return ",".join(terms) or "<none>"


def _count(tree: Tree, values: list[Any]) -> int:
    return len(values[0]) if values else 0


def _config_map_entries(tree: Tree, values: list[Any]) -> int:
    return len(tree.get("data", {})) + len(tree.get("binaryData", {}))


def _event_last_seen(tree: Tree, values: list[Any]) -> Any:
    times = [
        tree.get("series", {}).get("lastObservedTime"),
        tree.get("lastTimestamp"),
        tree.get("deprecatedLastTimestamp"),
        tree.get("eventTime"),
    ]
    return max((time for time in times if time), key=parse_time, default=None)


def _object_reference(tree: Tree, values: list[Any]) -> str | None:
    if not values:
        return None
    return f"{values[0].get('kind', '').lower()}/{values[0].get('name', '')}"


def _role_reference(tree: Tree, values: list[Any]) -> str | None:
    return f"{values[0].get('kind', '')}/{values[0].get('name', '')}" if values else None


def _label_selector(tree: Tree, values: list[Any]) -> str | None:
    return label_selector_text(values[0]) if values else None


def _node_status(tree: Tree, values: list[Any]) -> str:
    ready: Tree = next((each for each in (values[0] if values else []) if each.get("type") == "Ready"), {})
    word = {"True": "Ready", "False": "NotReady"}.get(ready.get("status", ""), "Unknown")
    return f"{word},SchedulingDisabled" if tree.get("spec", {}).get("unschedulable") else word


def _node_internal_ip(tree: Tree, values: list[Any]) -> str | None:
    addresses = values[0] if values else []
    return next((each.get("address") for each in addresses if each.get("type") == "InternalIP"), None)


def _csr_condition(tree: Tree, values: list[Any]) -> str:
    status = values[0] if values else {}
    given = {each.get("type") for each in status.get("conditions", [])}
    words = [word for word in ("Approved", "Denied", "Failed") if word in given] or ["Pending"]
    return ",".join([*words, "Issued"] if status.get("certificate") else words)


RENDERERS: Final[dict[str, PathRenderer]] = {
    "config-map-entries": _config_map_entries,
    "count": _count,
    "csr-condition": _csr_condition,
    "event-last-seen": _event_last_seen,
    "label-selector": _label_selector,
    "node-internal-ip": _node_internal_ip,
    "node-status": _node_status,
    "object-reference": _object_reference,
    "role-reference": _role_reference,
}
