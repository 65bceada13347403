"""Sets of field paths, as server-side apply records them (FieldsV1 of meta.k8s.io/v1).

A path is a tuple of steps: "f:name" for a member, 'k:{"name":"a"}' for a list item by its keys, 'v:"x"' for an item
of a set. A field set has the path of every leaf (a scalar, an empty object, an atomic value) and of every list item.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from services.apimachinery.errors import BadRequest
from services.apimachinery.schema.schema import Field, ListType, Schema, Tree, Type

Path = tuple[str, ...]
FieldSet = frozenset[Path]

# Kept by the server and never owned by a manager.
_SYSTEM: Final = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)}
    | {
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "selfLink",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        )
    }
)
_MANAGED: Final = ("f:metadata", "f:managedFields")
# The value of a list item in `fields_of`: its members are compared by themselves.
_ITEM: Final = object()


def fields_of(schema: Schema, tree: Tree) -> dict[Path, Any]:
    """The field set of an object with the value of each leaf; BadRequest for list items without or with equal keys."""
    found: dict[Path, Any] = {}
    _walk_object(schema, tree, (), found)
    for path in [path for path in found if path in _SYSTEM or path[:2] == _MANAGED]:
        del found[path]
    return found


def _walk(member: Field | None, schema: Schema, value: Any, path: Path, found: dict[Path, Any]) -> None:
    atomic = schema.type not in (Type.OBJECT, Type.MAP) if member is None else member.atomic
    if atomic or schema.atomic or value in (None, {}):
        found[path] = value
    elif schema.type is Type.OBJECT:
        _walk_object(schema, value, path, found)
    elif schema.type is Type.MAP:
        for name, entry in value.items():
            below = (*path, f"f:{name}")
            found[below] = _ITEM
            _walk(None, schema.of, entry, below, found)
    elif member is not None:
        for step, item in keyed(member, value, path):
            below = (*path, step)
            found[below] = _ITEM
            if member.list_type is ListType.MAP:
                _walk(None, schema.of, item, below, found)


def _walk_object(schema: Schema, tree: Tree, path: Path, found: dict[Path, Any]) -> None:
    for name, value in tree.items():
        member = schema.fields.get(name)
        if member is not None:
            _walk(member, member.schema, value, (*path, f"f:{name}"), found)


def keyed(member: Field, items: list[Any], path: Path) -> list[tuple[str, Any]]:
    """The items of a list of type map or set with the steps that name them; BadRequest where that is impossible."""
    steps = [step_of(member, item, path) for item in items]
    if len(set(steps)) != len(steps):
        twice = next(step for step in steps if steps.count(step) > 1)
        raise BadRequest(f"{text_of((*path, twice))}: two items of the list have the same key")
    return list(zip(steps, items, strict=True))


def step_of(member: Field, item: Any, path: Path = ()) -> str:
    """The step that names an item of a list of type map or set."""
    if member.list_type is ListType.SET:
        return f"v:{orjson.dumps(item).decode()}"
    first, *more = member.map_keys
    if first not in item:
        raise BadRequest(f"{text_of(path)}: an item of the list lacks its key {first!r}")
    keys = {first: item[first]} | {name: item.get(name, "") for name in more}
    return f"k:{orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()}"


def parse_fields_v1(tree: Any) -> FieldSet:
    """The set that a FieldsV1 tree stands for; BadRequest when it isn't one."""
    found: set[Path] = set()
    _parse(tree, (), found)
    return frozenset(found)


def _parse(node: Any, path: Path, found: set[Path]) -> None:
    if not isinstance(node, dict):
        raise BadRequest("metadata.managedFields: fieldsV1 must consist of objects")
    if path and (not node or "." in node):
        found.add(path)
    for step, below in node.items():
        if step == ".":
            continue
        if step[:2] not in ("f:", "k:", "v:", "i:"):
            raise BadRequest(f"metadata.managedFields: fieldsV1 has a member {step!r} that is no path")
        _parse(below, (*path, step), found)


def format_fields_v1(paths: Iterable[Path]) -> Tree:
    """The FieldsV1 tree of a set."""
    root: Tree = {}
    members = []
    for path in sorted(paths):
        node = root
        for step in path:
            node = node.setdefault(step, {})
        members.append(node)
    for node in members:
        if node:
            node["."] = {}
    return root


def text_of(path: Path) -> str:
    """A path for people: .spec.volumes[name="root"].device."""
    text = ""
    for step in path:
        kind, rest = step[:2], step[2:]
        if kind == "f:":
            text += f".{rest}"
        elif kind == "k:":
            keys = orjson.loads(rest)
            text += f"[{','.join(f'{name}={orjson.dumps(value).decode()}' for name, value in keys.items())}]"
        else:
            text += f"[={rest}]"
    return text
