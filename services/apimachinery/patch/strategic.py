"""Strategic merge patch: a merge patch that knows which lists have items with a key, and directives in the patch.

Directives (Kubernetes, "Strategic Merge Patch"): `$patch: replace | delete | merge`, `$retainKeys`,
`$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.
"""

from __future__ import annotations

from typing import Any, Final

from services.apimachinery.errors import BadRequest
from services.apimachinery.kinds import Kind
from services.apimachinery.patch.lists import hashable, interleaved
from services.apimachinery.schema.schema import Field, ListType, Schema, Tree, Type, schema_of

_PATCH: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_ORDER: Final = "$setElementOrder/"
_DELETE_VALUES: Final = "$deleteFromPrimitiveList/"


def apply_strategic_patch(kind: Kind[Any], document: Tree, patch: Any) -> Tree:
    """The patched document; BadRequest for a malformed patch, directive or an item without its merge key."""
    if not isinstance(patch, dict):
        raise BadRequest("a strategic merge patch must be an object")
    try:
        return _merge_object(schema_of(kind), document, patch, "")
    except RecursionError as error:
        raise BadRequest("the strategic merge patch is nested too deeply") from error


def _merge_object(schema: Schema | None, document: Tree, patch: Tree, path: str) -> Tree:
    how = patch.get(_PATCH, "merge")
    if how not in ("merge", "replace", "delete"):
        raise BadRequest(f"{path or 'patch'}: unknown directive $patch: {how!r}")
    if how == "delete":
        return {}
    merged = dict(document) if how == "merge" else {}
    if _RETAIN in patch:
        merged = _retained(merged, patch, path)
    for name, value in patch.items():
        if name.startswith(_DELETE_VALUES):
            target = name.removeprefix(_DELETE_VALUES)
            gone = {hashable(each) for each in _a_list(value, f"{path}.{name}")}
            if isinstance(merged.get(target), list):
                merged[target] = [each for each in merged[target] if hashable(each) not in gone]
    for name, value in patch.items():
        if name in (_PATCH, _RETAIN) or name.startswith((_ORDER, _DELETE_VALUES)):
            continue
        if value is None:
            merged.pop(name, None)
            continue
        merged[name] = _merge_member(schema, name, merged.get(name), value, f"{path}.{name}".lstrip("."))
        if isinstance(value, dict) and value.get(_PATCH) == "delete":
            del merged[name]
    for name, order in patch.items():
        if name.startswith(_ORDER):
            _reorder(schema, name.removeprefix(_ORDER), merged, document, _a_list(order, f"{path}.{name}"))
    return merged


def _merge_member(schema: Schema | None, name: str, old: Any, value: Any, path: str) -> Any:
    member = schema.fields.get(name) if schema is not None else None
    below = member.schema if member is not None else None
    if schema is not None and schema.type is Type.MAP:
        below = schema.of
    if isinstance(value, dict):
        return _merge_object(below, old if isinstance(old, dict) else {}, value, path)
    if isinstance(value, list):
        return _merge_list(member, old if isinstance(old, list) else [], value, path)
    return value


def _merge_list(member: Field | None, old: list[Any], patch: list[Any], path: str) -> list[Any]:
    if member is None or member.schema.type is not Type.LIST or member.list_type is ListType.ATOMIC:
        return patch
    if member.list_type is ListType.SET:
        known = {hashable(each) for each in old}
        return old + [each for each in patch if hashable(each) not in known]
    items = [_an_object(each, f"{path}[{at}]") for at, each in enumerate(patch)]
    if any(item.get(_PATCH) == "replace" for item in items):
        return [item for item in items if item.get(_PATCH) != "replace"]
    merge_key = member.rules.list_map_key
    merged = {hashable(item.get(merge_key)): item for item in old}
    for at, item in enumerate(items):
        place = f"{path}[{at}]"
        if merge_key not in item:
            raise BadRequest(f"{place}: the item lacks the merge key {merge_key!r} of its list")
        key = hashable(item[merge_key])
        if item.get(_PATCH) == "delete":
            merged.pop(key, None)
        else:
            merged[key] = _merge_object(member.schema.of, merged.get(key, {}), item, place)
    return list(merged.values())


def _retained(document: Tree, patch: Tree, path: str) -> Tree:
    names = _a_list(patch[_RETAIN], f"{path}.{_RETAIN}")
    stray = [
        name for name, value in patch.items() if value is not None and not name.startswith("$") and name not in names
    ]
    if stray:
        raise BadRequest(f"{path or 'patch'}: {', '.join(stray)} must be listed in {_RETAIN}")
    return {name: value for name, value in document.items() if name in names}


def _reorder(schema: Schema | None, name: str, merged: Tree, document: Tree, order: list[Any]) -> None:
    member = schema.fields.get(name) if schema is not None else None
    if member is None or member.schema.type is not Type.LIST or member.list_type is ListType.ATOMIC:
        raise BadRequest(f"{_ORDER}{name}: {name} is not a list that is merged")
    if not isinstance(merged.get(name), list):
        return
    merge_key = member.rules.list_map_key

    def key(item: Any) -> Any:
        return hashable(item.get(merge_key) if merge_key and isinstance(item, dict) else item)

    before = document.get(name)
    merged[name] = interleaved(
        merged[name],
        key,
        [key(each) for each in order],
        [key(each) for each in before] if isinstance(before, list) else [],
    )


def _a_list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest(f"{path.lstrip('.')}: the directive needs an array")
    return value


def _an_object(value: Any, path: str) -> Tree:
    if not isinstance(value, dict):
        raise BadRequest(f"{path}: expected an object")
    return value
