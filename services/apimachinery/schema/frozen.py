"""Rules of change: `immutable` and `set_once` members keep their values."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_interface
from typing import Any

from services.apimachinery.errors import Cause
from services.apimachinery.schema import causes as say
from services.apimachinery.schema.quantity import Quantity
from services.apimachinery.schema.schema import Field, ListType, Schema, Tree, Type


def frozen(member: Field, value: Any, old: Any, path: str, found: list[Cause]) -> None:
    """Appends a cause for each frozen value that differs between the stored and the new object."""
    if not _holds(member) or value == old:
        return
    if member.rules.immutable or (member.rules.set_once and old):
        if not _same(member, value, old):
            found.append(say.forbidden(path, say.IMMUTABLE))
    elif member.schema.type is Type.LIST:
        _list(member, value or [], old or [], path, found)
    elif member.schema.type is Type.MAP:
        for name in (value or {}).keys() & (old or {}).keys():
            _object(member.schema.of, value[name], old[name], f"{path}.{name}", found)
    else:
        _object(member.schema, value or {}, old or {}, path, found)


def item_key(member: Field, item: Tree) -> tuple[Any, ...]:
    """What identifies an item of a list of type map; an absent key counts as empty."""
    return tuple(item.get(name, "") for name in member.map_keys)


@cache
def _holds(member: Field) -> bool:
    """True where something at or below the member is frozen; a template is a blueprint, nothing in it is."""
    if member.rules.immutable or member.rules.set_once:
        return True
    if member.rules.template:
        return False
    schema = member.schema
    if schema.type is Type.LIST and member.list_type is not ListType.MAP:
        return False
    if schema.type in (Type.LIST, Type.MAP):
        schema = schema.of
    return schema.type is Type.OBJECT and any(_holds(below) for below in schema.fields.values())


def _object(schema: Schema, tree: Tree, old: Tree, path: str, found: list[Cause]) -> None:
    for member in schema.fields.values():
        frozen(member, tree.get(member.name), old.get(member.name), f"{path}.{member.name}", found)


def _list(member: Field, items: list[Tree], old: list[Tree], path: str, found: list[Cause]) -> None:
    before = {item_key(member, item): item for item in old}
    for at, item in enumerate(items):
        stored = before.get(item_key(member, item))
        if stored is not None:
            _object(member.schema.of, item, stored, f"{path}[{at}]", found)


def _same(member: Field, value: Any, old: Any) -> bool:
    """Equal in meaning: 1024Ki is 1Mi, 2001:DB8::1 is 2001:db8::1."""
    if type(value) is not type(old):
        return False
    if isinstance(value, dict) and member.schema.type is Type.MAP and member.schema.of.type is Type.QUANTITY:
        return value.keys() == old.keys() and all(_amount(value[name]) == _amount(old[name]) for name in value)
    if member.schema.type is Type.QUANTITY:
        return _amount(value) == _amount(old)
    if isinstance(value, str) and member.rules.format in ("ip", "cidr"):
        try:
            return ip_interface(value) == ip_interface(old)
        except ValueError:
            return False
    return bool(value == old)


def _amount(text: str) -> Quantity:
    return Quantity.parse(text)
