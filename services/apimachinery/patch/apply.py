"""Server-side apply: a manager states the fields it wants, the server keeps who owns what in managedFields.

Taking a field that another manager owns, with another value, is a conflict unless forced. A field that a manager no
longer states goes when nobody else owns it. Ordinary writes are recorded too, each under its manager (`track_update`).
"""

from __future__ import annotations

from typing import Any, Final

from services.apimachinery.errors import BadRequest, Cause, Conflict
from services.apimachinery.kinds import Kind
from services.apimachinery.patch.fields import Difference, FieldSet, Path, compare, fields_of, keyed, step_of, text_of
from services.apimachinery.patch.lists import hashable, interleaved
from services.apimachinery.patch.managers import (
    Manager,
    Managers,
    Operation,
    Ownership,
    entries_of,
    joined,
    managers_of,
)
from services.apimachinery.schema.schema import Field, ListType, Schema, Tree, Type, schema_of

# Owns what an object had before anybody was recorded.
_BEFORE: Final = "before-first-apply"


def apply(
    kind: Kind[Any],
    live: Tree | None,
    applied: Tree,
    manager: str,
    *,
    force: bool,
    subresource: str = "",
    now: str,
) -> Tree:
    """The object with the applied configuration merged in and managedFields kept.

    `live` is the stored object (None: there is none yet), `applied` comes from `prune_applied`, `now` is an RFC 3339
    time. An apply that changes nothing gives `live` again. Conflict names each field and its owner; BadRequest for a
    configuration with managedFields or without a manager.
    """
    if not manager:
        raise BadRequest("fieldManager is required for an apply patch")
    if applied.get("metadata", {}).get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil in an applied configuration")
    schema = schema_of(kind)
    wanted = _of_subresource(kind, applied, subresource)
    base: Tree = live or {}
    managers = _managers_before(schema, live, kind.api_version, now)
    writer = Manager(manager, Operation.APPLY, kind.api_version, subresource)
    last = managers[writer].fields if writer in managers else frozenset()
    owned: FieldSet = frozenset(fields_of(schema, wanted))
    since = managers[writer].time if writer in managers and last == owned else now
    managers[writer] = Ownership(owned, since)
    merged = _merge_object(schema, base, wanted, ())
    merged = _pruned(schema, merged, last, frozenset().union(*(each.fields for each in managers.values())))
    difference = compare(schema, base, merged)
    _refuse_conflicts(managers, writer, difference.changed, force=force)
    if difference.changed or difference.removed:
        managers[writer] = Ownership(owned, now)
    managers = _without(managers, writer, difference)
    return _with_entries(merged, managers)


def track_update(
    kind: Kind[Any], old: Tree | None, new: Tree, manager: str, *, subresource: str = "", now: str
) -> None:
    """Records an ordinary write in new's managedFields, in place: the manager owns what it changed, others lose it.

    Entries that the writer itself changed (kubectl moves them between managers) are taken as they are.
    """
    schema = schema_of(kind)
    given = new.get("metadata", {}).get("managedFields")
    managers = managers_of(new if given else old)
    difference = compare(schema, old or {}, new)
    writer = Manager(manager, Operation.UPDATE, kind.api_version, subresource)
    if difference.changed or difference.removed:
        before = managers[writer].fields if writer in managers else frozenset()
        managers[writer] = Ownership((before - difference.removed) | difference.changed, now)
        managers = joined(_without(managers, writer, difference), kind.api_version)
    new.setdefault("metadata", {})["managedFields"] = entries_of(managers)


def _managers_before(schema: Schema, live: Tree | None, api_version: str, now: str) -> Managers:
    managers = managers_of(live)
    if live is not None and not managers:
        everything = frozenset(fields_of(schema, live))
        managers = {Manager(_BEFORE, Operation.UPDATE, api_version): Ownership(everything, now)}
    return managers


def _of_subresource(kind: Kind[Any], applied: Tree, subresource: str) -> Tree:
    """The part of a configuration that the endpoint takes: all but the status, or the status alone."""
    if not kind.has_status:
        return applied
    if subresource == "status":
        return {name: value for name, value in applied.items() if name in ("apiVersion", "kind", "status")}
    return {name: value for name, value in applied.items() if name != "status"}


def _without(managers: Managers, writer: Manager, difference: Difference) -> Managers:
    """Others own neither what changed nor what is gone; the writer doesn't own what is gone."""
    left: Managers = {}
    for manager, owned in managers.items():
        fields = owned.fields - difference.removed
        if manager != writer:
            fields -= difference.changed
        left[manager] = owned if fields == owned.fields else Ownership(fields, owned.time)
    return left


def _refuse_conflicts(managers: Managers, writer: Manager, changed: FieldSet, *, force: bool) -> None:
    clashes = {
        manager: sorted(owned.fields & changed)
        for manager, owned in managers.items()
        if manager != writer and owned.fields & changed
    }
    if force or not clashes:
        return
    causes, lines = [], []
    for manager, paths in clashes.items():
        who = f'"{manager.name}"'
        if manager.subresource:
            who += f' with subresource "{manager.subresource}"'
        who += f" using {manager.api_version}"
        if manager.operation is Operation.UPDATE and managers[manager].time:
            who += f" at {managers[manager].time}"
        causes += [Cause(text_of(path), "FieldManagerConflict", f"conflict with {who}") for path in paths]
        lines.append(
            f"conflict with {who}: {text_of(paths[0])}"
            if len(paths) == 1
            else f"conflicts with {who}:\n" + "\n".join(f"- {text_of(path)}" for path in paths)
        )
    count = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
    raise Conflict(f"Apply failed with {count}: " + "\n".join(lines), causes)


def _with_entries(tree: Tree, managers: Managers) -> Tree:
    metadata = dict(tree.get("metadata", {}))
    metadata["managedFields"] = entries_of(managers)
    return tree | {"metadata": metadata}


def _merge(member: Field | None, schema: Schema, old: Any, new: Any, path: Path) -> Any:
    atomic = schema.atomic if member is None else member.atomic
    if atomic or old is None:
        return new
    if schema.type is Type.OBJECT:
        return _merge_object(schema, old, new, path)
    if schema.type is Type.MAP:
        return old | {
            name: _merge(None, schema.of, old.get(name), value, (*path, f"f:{name}")) for name, value in new.items()
        }
    if schema.type is Type.LIST and member is not None:
        return _merge_list(member, old, new, path)
    return new


def _merge_object(schema: Schema, old: Tree, new: Tree, path: Path) -> Tree:
    merged = dict(old)
    for name, value in new.items():
        member = schema.fields[name]
        merged[name] = _merge(member, member.schema, old.get(name), value, (*path, f"f:{name}"))
    return merged


def _merge_list(member: Field, old: list[Any], new: list[Any], path: Path) -> list[Any]:
    before, wanted = dict(keyed(member, old, path)), dict(keyed(member, new, path))
    if member.list_type is ListType.SET:
        items: dict[str, Any] = before | wanted
    else:
        items = before | {
            step: _merge(None, member.schema.of, before.get(step), item, (*path, step)) for step, item in wanted.items()
        }
    ordered = interleaved(list(items.items()), lambda each: hashable(each[0]), list(wanted), list(before))
    return [item for _, item in ordered]


def _pruned(schema: Schema, merged: Tree, last: FieldSet, owned: FieldSet) -> Tree:
    """The object without what the writer stated the last time and nobody states now."""
    alive = {path[:length] for path in owned for length in range(1, len(path) + 1)}
    gone = frozenset(last - alive)
    return _cut_object(schema, merged, (), gone) if gone else merged


def _cut(member: Field | None, schema: Schema, value: Any, path: Path, gone: FieldSet) -> Any:
    """The value without the paths below it that are gone."""
    if schema.type is Type.OBJECT and isinstance(value, dict):
        return _cut_object(schema, value, path, gone)
    if schema.type is Type.MAP and isinstance(value, dict):
        return {
            name: _cut(None, schema.of, entry, (*path, f"f:{name}"), gone)
            for name, entry in value.items()
            if (*path, f"f:{name}") not in gone
        }
    if schema.type is Type.LIST and member is not None and member.list_type is not ListType.ATOMIC:
        steps = [(item, (*path, step_of(member, item, path))) for item in value]
        return [_cut_item(member, item, step, gone) for item, step in steps if step not in gone]
    return value


def _cut_item(member: Field, item: Any, path: Path, gone: FieldSet) -> Any:
    """An item that stays keeps the members that name it."""
    if member.list_type is ListType.SET:
        return item
    keys = {name: item[name] for name in member.map_keys if name in item}
    return keys | _cut(None, member.schema.of, item, path, gone)


def _cut_object(schema: Schema, tree: Tree, path: Path, gone: FieldSet) -> Tree:
    """An object that loses its last member goes too; one that was empty before stays."""
    left = {}
    for name, value in tree.items():
        below = (*path, f"f:{name}")
        if below in gone:
            continue
        member = schema.fields[name]
        cut = _cut(member, member.schema, value, below, gone)
        if cut or not value:
            left[name] = cut
    return left
