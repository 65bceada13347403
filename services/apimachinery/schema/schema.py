"""The schema of a kind: a tree of types, compiled once from the protobuf descriptor, its options and comments.

Kubernetes gives some messages a JSON form of their own (a Time is a string); they are known here by their full names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
from google.protobuf.descriptor import FieldDescriptor

from protos.api.v1 import options_pb2
from services.apimachinery.kinds import Kind

Tree = dict[str, Any]

META: Final = "k8s.io.apimachinery.pkg.apis.meta.v1"


class Type(Enum):
    """The JSON shapes a value can have."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    BYTES = "base64 string"
    OBJECT = "object"
    MAP = "map"
    LIST = "list"
    TIME = "RFC 3339 time"
    MICRO_TIME = "RFC 3339 time with microseconds"
    QUANTITY = "quantity"
    INT_OR_STRING = "integer or string"
    DURATION = "duration"
    RAW = "any JSON"


# Messages whose JSON form is not an object of their fields.
SPECIAL: Final = {
    f"{META}.Time": Type.TIME,
    f"{META}.MicroTime": Type.MICRO_TIME,
    f"{META}.Duration": Type.DURATION,
    f"{META}.FieldsV1": Type.RAW,
    "k8s.io.apimachinery.pkg.api.resource.Quantity": Type.QUANTITY,
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": Type.INT_OR_STRING,
    "k8s.io.apimachinery.pkg.runtime.RawExtension": Type.RAW,
}

# Kubernetes treats these as one value in server-side apply, wherever they stand.
ATOMIC_MESSAGES: Final = frozenset({f"{META}.LabelSelector"})

_SCALARS: Final = {
    FieldDescriptor.TYPE_STRING: (Type.STRING, ""),
    FieldDescriptor.TYPE_BYTES: (Type.BYTES, "byte"),
    FieldDescriptor.TYPE_BOOL: (Type.BOOLEAN, ""),
    FieldDescriptor.TYPE_INT32: (Type.INTEGER, "int32"),
    FieldDescriptor.TYPE_SINT32: (Type.INTEGER, "int32"),
    FieldDescriptor.TYPE_SFIXED32: (Type.INTEGER, "int32"),
    FieldDescriptor.TYPE_INT64: (Type.INTEGER, "int64"),
    FieldDescriptor.TYPE_SINT64: (Type.INTEGER, "int64"),
    FieldDescriptor.TYPE_SFIXED64: (Type.INTEGER, "int64"),
    FieldDescriptor.TYPE_UINT32: (Type.INTEGER, "uint32"),
    FieldDescriptor.TYPE_FIXED32: (Type.INTEGER, "uint32"),
    FieldDescriptor.TYPE_UINT64: (Type.INTEGER, "uint64"),
    FieldDescriptor.TYPE_FIXED64: (Type.INTEGER, "uint64"),
    FieldDescriptor.TYPE_FLOAT: (Type.NUMBER, "float"),
    FieldDescriptor.TYPE_DOUBLE: (Type.NUMBER, "double"),
}

INTEGER_BOUNDS: Final = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}

_NO_RULES: Final = options_pb2.FieldRules()
_TYPE_META: Final = {
    "apiVersion": "Group and version of the object's schema; clients may leave it out where the URL says it.",
    "kind": "Name of the object's kind; clients may leave it out where the URL says it.",
}


@dataclass(eq=False)
class Schema:
    """One type: `fields` when it is an OBJECT (members of inlined messages included), `item` for a LIST or a MAP."""

    type: Type
    # Width of an INTEGER or NUMBER: "int32", "int64", "double", ...
    format: str = ""
    # The OBJECT's protobuf message.
    descriptor: Any = None
    description: str = ""
    fields: dict[str, Field] = field(default_factory=dict)
    item: Schema | None = None
    # Rules that concern several fields of an OBJECT: its own and those of the messages inlined into it.
    message_rules: tuple[options_pb2.MessageRules, ...] = ()
    # Server-side apply and merges replace an OBJECT of this type as a whole.
    atomic: bool = False

    @property
    def name(self) -> str:
        """Full name of the OBJECT's message; empty for other types."""
        return str(self.descriptor.full_name) if self.descriptor is not None else ""

    @property
    def of(self) -> Schema:
        """The type of a LIST's items or a MAP's values."""
        if self.item is None:
            raise TypeError(f"{self.type.value} has no items")
        return self.item


class ListType(Enum):
    """How server-side apply and merges treat a list."""

    ATOMIC = "atomic"
    MAP = "map"
    SET = "set"


@dataclass(eq=False)
class Field:
    """One member of an OBJECT: its type and the rules that hold at this place."""

    name: str
    schema: Schema
    rules: options_pb2.FieldRules
    description: str
    # Fields of the protobuf messages on the way: several for members of inlined messages, none for apiVersion and kind.
    path: tuple[Any, ...] = ()

    @property
    def optional(self) -> bool:
        """Absence differs from the type's zero: such a scalar is written even when it is zero."""
        return bool(self.path and self.path[-1].has_presence)

    @property
    def list_type(self) -> ListType:
        """How a LIST is merged."""
        if self.rules.list_map_key:
            return ListType.MAP
        return ListType.SET if self.rules.list_set else ListType.ATOMIC

    @property
    def map_keys(self) -> tuple[str, ...]:
        """The members that identify an item of a LIST of type MAP."""
        return (self.rules.list_map_key, *self.rules.list_map_more_keys) if self.rules.list_map_key else ()

    @property
    def atomic(self) -> bool:
        """The value is replaced as a whole by server-side apply and merges."""
        if self.schema.type is Type.LIST:
            return self.list_type is ListType.ATOMIC
        return self.rules.atomic or self.schema.atomic or self.schema.type not in (Type.OBJECT, Type.MAP)


@cache
def schema_of(kind: Kind[Any]) -> Schema:
    """The schema of a kind's objects, with apiVersion and kind; TypeError for a message that JSON can't express."""
    body = message_schema(kind.message.DESCRIPTOR)
    type_meta = {
        name: Field(name, Schema(Type.STRING), _NO_RULES, description) for name, description in _TYPE_META.items()
    }
    return Schema(
        Type.OBJECT,
        descriptor=body.descriptor,
        description=body.description,
        fields=type_meta | body.fields,
        message_rules=body.message_rules,
    )


@cache
def message_schema(descriptor: Any) -> Schema:
    """The schema of any message; messages that stand for themselves in many places share it."""
    if descriptor.full_name in SPECIAL:
        return Schema(SPECIAL[descriptor.full_name])
    rules = descriptor.GetOptions().Extensions[options_pb2.message]
    if rules.as_list:
        return _field_schema(descriptor.fields[0], _rules(descriptor.fields[0]))
    schema = Schema(
        Type.OBJECT,
        descriptor=descriptor,
        description=comments().get(descriptor.full_name, ""),
        message_rules=(rules,),
        atomic=rules.atomic or descriptor.full_name in ATOMIC_MESSAGES,
    )
    for member in _members(descriptor, ()):
        if member.name in schema.fields:
            raise TypeError(f"{descriptor.full_name} has two fields named {member.name} in JSON")
        schema.fields[member.name] = member
    for proto in descriptor.fields:
        if _rules(proto).inline:
            schema.message_rules += message_schema(proto.message_type).message_rules
    return schema


@cache
def comments() -> dict[str, str]:
    """Comments of the protos by full name, as tools/compile_protos.py left them: descriptors lack them at run time."""
    text: dict[str, str] = orjson.loads(files("protos").joinpath("comments.json").read_bytes())
    return text


def _members(descriptor: Any, way: tuple[Any, ...]) -> Iterator[Field]:
    for proto in descriptor.fields:
        rules = _rules(proto)
        if rules.inline:
            yield from _members(proto.message_type, (*way, proto))
        else:
            description = comments().get(proto.full_name, "")
            yield Field(proto.json_name, _field_schema(proto, rules), rules, description, (*way, proto))


def _rules(proto: Any) -> options_pb2.FieldRules:
    rules: options_pb2.FieldRules = proto.GetOptions().Extensions[options_pb2.field]
    return rules


def _field_schema(proto: Any, rules: options_pb2.FieldRules) -> Schema:
    if is_map(proto):
        return Schema(Type.MAP, item=_single(proto.message_type.fields_by_name["value"], rules))
    if proto.is_repeated:
        return Schema(Type.LIST, item=_single(proto, rules))
    return _single(proto, rules)


def is_map(proto: Any) -> bool:
    """True for a `map<,>` field."""
    return bool(proto.is_repeated and proto.message_type is not None and proto.message_type.GetOptions().map_entry)


def _single(proto: Any, rules: options_pb2.FieldRules) -> Schema:
    if proto.message_type is not None:
        return message_schema(proto.message_type)
    if proto.type not in _SCALARS:
        raise TypeError(f"{proto.full_name}: kinds have strings with allowed values in place of enums")
    if rules.quantity:
        return Schema(Type.QUANTITY)
    kind, width = _SCALARS[proto.type]
    return Schema(kind, format=width)
