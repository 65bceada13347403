"""Sets of field paths, as server-side apply records them (FieldsV1 of meta.k8s.io/v1).

A path is a tuple of steps: "f:name" for a member, 'k:{"name":"a"}' for a list item by its keys, 'v:"x"' for an item
of a set. A field set has the path of every leaf (a scalar, an empty object, an atomic value) and of every list item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
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
    return {path: found[path] for path in _owned(found)}


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
    if first not in item or item[first] == "":  # what is stored of an empty one is none
        raise BadRequest(f"{text_of(path)}: an item of the list lacks its key {first!r}")
    keys = {first: item[first]} | {name: item.get(name, "") for name in more}
    return f"k:{orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()}"


@dataclass(frozen=True)
class Difference:
    """Paths whose value is new or another, and paths that are gone."""

    changed: FieldSet
    removed: FieldSet


def compare(schema: Schema, old: Tree, new: Tree) -> Difference:
    """What differs between two states of an object."""
    before: dict[Path, Any] = {}
    after: dict[Path, Any] = {}
    _walk_differing(schema, old, new, (), (before, after))
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    return Difference(frozenset(_owned(changed)), frozenset(_owned(before.keys() - after.keys())))


def _walk_differing(
    schema: Schema, old: Tree, new: Tree, path: Path, found: tuple[dict[Path, Any], dict[Path, Any]]
) -> None:
    """Walks only where the two differ: most of an object stays the same in a write."""
    for name in old.keys() | new.keys():
        one, other, member = old.get(name), new.get(name), schema.fields.get(name)
        if member is None or (one == other and name in old and name in new):
            continue
        below = (*path, f"f:{name}")
        if one and other and member.schema.type is Type.OBJECT and not member.atomic:
            _walk_differing(member.schema, one, other, below, found)
            continue
        for tree, value, into in ((old, one, found[0]), (new, other, found[1])):
            if name in tree:
                _walk(member, member.schema, value, below, into)


def _owned(paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in paths if path not in _SYSTEM and path[:2] != _MANAGED)


def parse_fields_v1(tree: Any) -> FieldSet:
    """The set that a FieldsV1 tree stands for; BadRequest when it isn't one."""
    return _parsed(orjson.dumps(tree))


@lru_cache(maxsize=512)
def _parsed(text: bytes) -> FieldSet:
    found: set[Path] = set()
    _parse(orjson.loads(text), (), found)
    return frozenset(found)


def _parse(node: Any, path: Path, found: set[Path]) -> None:
    if not isinstance(node, dict):
        raise BadRequest("metadata.managedFields: fieldsV1 must consist of objects")
    if path and (not node or "." in node):
        found.add(path)
    for step, below in node.items():
        if step == ".":
            continue
        if not _is_step(step):
            raise BadRequest(f"metadata.managedFields: fieldsV1 has a member {step!r} that is no path")
        _parse(below, (*path, step), found)


def _is_step(step: str) -> bool:
    """True for the four forms of a step; "i:" is an item by its index, which only others write."""
    kind, rest = step[:2], step[2:]
    try:
        if kind == "k:":
            return isinstance(orjson.loads(rest), dict)
        if kind == "v:":
            orjson.loads(rest)
            return True
    except orjson.JSONDecodeError:
        return False
    return kind == "f:" or (kind == "i:" and rest.isdecimal())


@lru_cache(maxsize=512)
def format_fields_v1(paths: FieldSet) -> Tree:
    """The FieldsV1 tree of a set. Shared: not to be changed by callers."""
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
