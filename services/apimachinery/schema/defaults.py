"""Values of absent fields, from the `default` options."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import orjson

from services.apimachinery.kinds import Kind
from services.apimachinery.schema.decode import canonical_value
from services.apimachinery.schema.schema import Field, Schema, Tree, Type, schema_of

Fill = Callable[[Any], None]


def apply_defaults(kind: Kind[Any], tree: Tree) -> None:
    """Fills in the kind's defaults, in place. What lies below an absent object stays absent."""
    fill = _filler(schema_of(kind))
    if fill is not None:
        fill(tree)


@cache
def _filler(schema: Schema) -> Fill | None:
    """The function that fills values of this type, None when there is nothing to fill."""
    if schema.type is Type.OBJECT:
        return _object(schema)
    if schema.type not in (Type.LIST, Type.MAP):
        return None
    below = _filler(schema.of)
    if below is None:
        return None

    def fill_items(items: Any) -> None:
        for item in items.values() if schema.type is Type.MAP else items:
            below(item)

    return fill_items


def _default(member: Field) -> bytes:
    """The default as JSON, in canonical form; each object gets values of its own from it."""
    return orjson.dumps(canonical_value(member.schema, orjson.loads(member.rules.default)))


def _object(schema: Schema) -> Fill | None:
    defaults = [(member.name, _default(member)) for member in schema.fields.values() if member.rules.default]
    below = [(member.name, fill) for member in schema.fields.values() if (fill := _filler(member.schema)) is not None]
    if not defaults and not below:
        return None

    def fill_object(tree: Tree) -> None:
        for name, text in defaults:
            if name not in tree:
                tree[name] = orjson.loads(text)
        for name, fill in below:
            if name in tree:
                fill(tree[name])

    return fill_object
