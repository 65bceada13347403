"""What the options of the protos demand of an object, as Kubernetes' causes: value rules, then rules of change.

Trees are canonical and have their defaults. Rules that no option can say are a service's `KindHooks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from services.apimachinery.errors import Cause
from services.apimachinery.kinds import Kind
from services.apimachinery.schema import causes as say
from services.apimachinery.schema.causes import invalid
from services.apimachinery.schema.frozen import frozen
from services.apimachinery.schema.metadata import validate_metadata
from services.apimachinery.schema.rules import checks_of
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
    for group in _groups(schema_of(kind)):
        group.check(tree, "", found)
    return found


_EMPTY: Final[tuple[Any, ...]] = ("", [], {})

Visit = Callable[[Any, str, list[Cause]], None]


@cache
def _plan(member: Field) -> Visit:
    """Looks at one member; nothing is visited that has no rule below it."""
    required, checks, below = member.rules.required, checks_of(member), _below(member.schema)

    def visit(value: Any, path: str, found: list[Cause]) -> None:
        if value is None or value in _EMPTY:
            if required:
                found.append(say.required(path))
            if required or value is None:
                return
        for check in checks:
            check(value, path, found)
        if below is not None:
            below(value, path, found)

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
    groups = [*_groups(schema)]
    if not members and not groups:
        return None

    def visit_object(tree: Tree, path: str, found: list[Cause]) -> None:
        for name, visit in members:
            visit(tree.get(name), f"{path}.{name}", found)
        for group in groups:
            group.check(tree, path, found)

    return visit_object


def _has_rules(member: Field) -> bool:
    return member.rules.required or bool(checks_of(member)) or _below(member.schema) is not None


@dataclass(frozen=True)
class _Group:
    """Members of which at least `least` and at most `most` must be set; True for members that are objects."""

    members: dict[str, bool]
    least: int
    most: int

    def check(self, tree: Tree, path: str, found: list[Cause]) -> None:
        """An object is set when it is there, also as `{}`; anything else when it is not empty."""
        given = [name for name, whole in self.members.items() if name in tree and (whole or tree[name])]
        if len(given) < self.least:
            how = "exactly one of" if self.most == 1 else "at least one of"
            found.append(say.required(path, f"must specify {how} {', '.join(self.members)}"))
        for name in given[self.most :]:
            below = f"{path}.{name}" if path else name
            found.append(say.forbidden(below, f"may not be specified together with {given[0]}"))


def _groups(schema: Schema) -> Iterator[_Group]:
    def members(names: Iterable[str]) -> dict[str, bool]:
        return {name: schema.fields[name].schema.type is Type.OBJECT for name in names}

    for rules in schema.message_rules:
        yield from (_Group(members(group.names), 1, 1) for group in rules.exactly_one_of)
        yield from (_Group(members(group.names), 0, 1) for group in rules.at_most_one_of)
        yield from (_Group(members(group.names), 1, len(group.names)) for group in rules.at_least_one_of)
