"""Patches of a stored object, and the record of who set which field (managedFields)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from services.apimachinery.errors import BadRequest
from services.apimachinery.patch.apply import apply, track_update
from services.apimachinery.patch.json_patch import apply_json_patch
from services.apimachinery.patch.merge_patch import apply_merge_patch
from services.apimachinery.patch.strategic import apply_strategic_patch
from services.apimachinery.schema.decode import normalise, parse_json, parse_yaml, prune_applied
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.call import Call


class PatchType(Enum):
    """How a patch is read; the media types of REST."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Patch:
    """A patch as it was sent."""

    type: PatchType
    body: bytes

    @property
    def is_apply(self) -> bool:
        """Server-side apply."""
        return self.type is PatchType.APPLY


def apply_patch(call: Call, patch: Patch, old: Tree) -> Tree:
    """The patched object, canonical. Raises BadRequest, Invalid."""
    tree = parse_json(patch.body)
    if patch.type is PatchType.JSON:
        changed = apply_json_patch(old, tree)
    elif patch.type is PatchType.MERGE:
        changed = apply_merge_patch(old, tree)
    else:
        changed = apply_strategic_patch(call.kind, old, tree)
    return _normal(call, changed)


def applied(call: Call, patch: Patch, old: Tree | None, now: str) -> Tree:
    """The object with an applied configuration merged in, managers recorded. Raises Conflict, BadRequest."""
    if not call.field_manager:
        raise BadRequest("fieldManager is required for apply patch")
    decoded = prune_applied(call.kind, parse_yaml(patch.body), call.validation)  # JSON is YAML, too
    _warn(call, decoded.warnings)
    wanted = _own_part(call, decoded.tree)
    if not wanted.setdefault("metadata", {}).get("name"):
        wanted["metadata"]["name"] = call.name
    merged = apply(
        call.kind,
        old,
        wanted,
        call.field_manager,
        force=call.force,
        subresource=call.subresource,
        now=now,
    )
    return normalise(call.kind, merged).tree


def record_manager(call: Call, new: Tree, old: Tree | None, now: str) -> None:
    """Notes in metadata.managedFields which fields this write has set."""
    track_update(call.kind, old, new, call.field_manager or "unknown", subresource=call.subresource, now=now)


def _own_part(call: Call, tree: Tree) -> Tree:
    """What the endpoint is about: nobody owns a status through the main endpoint, or else through the status one."""
    if call.subresource == "status":
        return {name: tree[name] for name in ("apiVersion", "kind", "metadata", "status") if name in tree}
    if call.kind.has_status:
        return {name: value for name, value in tree.items() if name != "status"}
    return dict(tree)


def _normal(call: Call, tree: Any) -> Tree:
    decoded = normalise(call.kind, tree, call.validation)
    _warn(call, decoded.warnings)
    return decoded.tree


def _warn(call: Call, warnings: list[str]) -> None:
    call.warnings += [text for text in warnings if text not in call.warnings]
