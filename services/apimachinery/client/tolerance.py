"""Reading what a newer or foreign server sends: members that our schema does not know are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.apimachinery.kinds import Kind
from services.apimachinery.schema.schema import Schema, Type, schema_of


def known_fields(kind: Kind[Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree without the members that the kind does not have."""
    known: dict[str, Any] = _known(schema_of(kind), tree)
    return known


def _known(schema: Schema, value: Any) -> Any:
    if schema.type is Type.OBJECT and isinstance(value, Mapping):
        return {name: _known(field.schema, value[name]) for name, field in schema.fields.items() if name in value}
    if schema.type is Type.LIST and isinstance(value, list):
        return [_known(schema.of, item) for item in value]
    if schema.type is Type.MAP and isinstance(value, Mapping):
        return {name: _known(schema.of, item) for name, item in value.items()}
    return value
