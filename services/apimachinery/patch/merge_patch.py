"""JSON merge patch (RFC 7386)."""

from __future__ import annotations

from typing import Any

from services.apimachinery.errors import BadRequest


def apply_merge_patch(document: Any, patch: Any) -> Any:
    """The patched document: objects merge, null removes, anything else replaces. BadRequest for absurd nesting."""
    try:
        return _merge(document, patch)
    except RecursionError as error:
        raise BadRequest("the merge patch is nested too deeply") from error


def _merge(document: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged
