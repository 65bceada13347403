"""What the options of the protos demand of an object, as Kubernetes' causes: value rules, then rules of change.

Trees are canonical and have their defaults. Rules that no option can say are a service's `KindHooks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from services.apimachinery.errors import Cause
from services.apimachinery.kinds import Kind
from services.apimachinery.schema import causes as say
from services.apimachinery.schema.causes import invalid
from services.apimachinery.schema.frozen import frozen
from services.apimachinery.schema.metadata import validate_metadata
from services.apimachinery.schema.rules import Check, checks_of
from services.apimachinery.schema.schema import Field, Schema, Tree, Type, schema_of

__all__ = ["invalid", "validate"]


def validate(kind: Kind[Any], tree: Tree, old: Tree | None = None, *, status: bool = False) -> list[Cause]:
    """Every broken rule; `old` is the stored object of an update.

    The main endpoint is checked but for the status, the status endpoint (`status=True`) but for all else.
    """
    found = validate_metadata(kind, tree, old)
    for member in schema_of(kind).fields.values():
        if (member.name == "status") is not status and member.name != "metadata":
            continue
        _plan(member)(tree.get(member.name), member.name, found)
        if old is not None:
            frozen(member, tree.get(member.name), old.get(member.name), member.name, found)
    _members_together(schema_of(kind), tree, "", found)
    return found


Visit = Callable[[Any, str, list[Cause]], None]


@dataclass(frozen=True)
class _Plan:
    """What to look at in one member: nothing is visited that has no rule below it."""

    required: bool
    checks: tuple[Check, ...]
    below: Visit | None


@cache
def _plan(member: Field) -> Visit:
    plan = _Plan(member.rules.required, tuple(checks_of(member)), _below(member.schema))

    def visit(value: Any, path: str, found: list[Cause]) -> None:
        if value is None or value == "" or value == [] or value == {}:
            if plan.required:
                found.append(say.required(path))
                return
            if value is None:
                return
        for check in plan.checks:
            check(value, path, found)
        if plan.below is not None:
            plan.below(value, path, found)

    return visit


@cache
def _below(schema: Schema) -> Visit | None:
    if schema.type is Type.OBJECT:
        return _object(schema)
    if schema.type not in (Type.LIST, Type.MAP):
        return None
    visit_item = _below(schema.of)
    if visit_item is None:
        return None

    def visit_list(items: list[Any], path: str, found: list[Cause]) -> None:
        for at, item in enumerate(items):
            visit_item(item, f"{path}[{at}]", found)

    def visit_map(entries: Tree, path: str, found: list[Cause]) -> None:
        for name, entry in entries.items():
            visit_item(entry, f"{path}.{name}", found)

    return visit_list if schema.type is Type.LIST else visit_map


def _object(schema: Schema) -> Visit | None:
    members = [(member.name, _plan(member)) for member in schema.fields.values() if _has_rules(member)]
    together = any(
        rules.exactly_one_of or rules.at_most_one_of or rules.at_least_one_of for rules in schema.message_rules
    )
    if not members and not together:
        return None

    def visit_object(tree: Tree, path: str, found: list[Cause]) -> None:
        for name, visit in members:
            visit(tree.get(name), f"{path}.{name}", found)
        if together:
            _members_together(schema, tree, path, found)

    return visit_object


def _has_rules(member: Field) -> bool:
    return member.rules.required or bool(checks_of(member)) or _below(member.schema) is not None


def _members_together(schema: Schema, tree: Tree, path: str, found: list[Cause]) -> None:
    for rules in schema.message_rules:
        for group in rules.exactly_one_of:
            _count(schema, tree, path, list(group.names), (1, 1), found)
        for group in rules.at_most_one_of:
            _count(schema, tree, path, list(group.names), (0, 1), found)
        for group in rules.at_least_one_of:
            _count(schema, tree, path, list(group.names), (1, len(group.names)), found)


def _count(
    schema: Schema, tree: Tree, path: str, names: list[str], bounds: tuple[int, int], found: list[Cause]
) -> None:
    given = [name for name in names if _is_set(schema.fields[name], tree.get(name))]
    least, most = bounds
    if len(given) < least:
        how = "exactly one of" if most == 1 else "at least one of"
        found.append(say.required(path, f"must specify {how} {', '.join(names)}"))
    for name in given[most:]:
        below = f"{path}.{name}" if path else name
        found.append(say.forbidden(below, f"may not be specified together with {given[0]}"))


def _is_set(member: Field, value: Any) -> bool:
    """An object is set when it is there, also as `{}`; anything else when it is not empty."""
    return value is not None if member.schema.type is Type.OBJECT else bool(value)
