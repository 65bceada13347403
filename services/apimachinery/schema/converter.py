"""Messages to Kubernetes JSON trees and back, compiled once per message type.

Out: a field is written when its message has it, scalars without presence when they are not zero; `always_present` ones
always. In: the tree is turned into the keyword arguments of one constructor call, which runs in C.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from protos.api.v1 import options_pb2
from services.apimachinery.kinds import Kind, kind_of
from services.apimachinery.schema import times
from services.apimachinery.schema.schema import SPECIAL, Tree, Type, is_map

M = TypeVar("M", bound=Message)

Encode = Callable[[Any], Any]
Decode = Callable[[Any], Any]


def to_tree(message: Message) -> Tree:
    """The JSON tree of an object, with apiVersion and kind.

    TypeError for a message that is no kind; ValueError for values JSON can't express (a time after the year 9999).
    """
    kind = kind_of(type(message))
    tree = {"apiVersion": kind.api_version, "kind": kind.name}
    tree.update(encoder(kind.message.DESCRIPTOR)(message))
    return tree


def from_tree(kind: Kind[M], tree: Tree) -> M:
    """The message of a canonical tree; ValueError or TypeError for a field or value that the kind doesn't have."""
    body = {key: value for key, value in tree.items() if key not in ("apiVersion", "kind")}
    return kind.message(**decoder(kind.message.DESCRIPTOR)(body))


@cache
def encoder(descriptor: Any) -> Encode:
    """The function from messages of one type to their JSON form; None stands for "nothing to write"."""
    if descriptor.full_name in SPECIAL:
        return _ENCODE[SPECIAL[descriptor.full_name]]
    if _stands_for_list(descriptor):
        items = descriptor.fields[0]
        items_out = _encode(items) or list
        return lambda message: items_out(getattr(message, items.name))
    table: dict[Any, tuple[str, Encode | None]] = {
        proto: (proto.json_name, _encode(proto)) for proto in descriptor.fields
    }
    inlined = {proto.json_name for proto in descriptor.fields if _rules(proto).inline}
    always = [(proto.json_name, _empty(proto)) for proto in descriptor.fields if _rules(proto).always_present]

    def encode(message: Message) -> Tree:
        tree = {}
        for proto, value in message.ListFields():
            name, convert = table[proto]
            if convert is None:
                tree[name] = value
            elif (converted := convert(value)) is not None:
                tree[name] = converted
        return tree

    def encode_and_fill(message: Message) -> Tree:
        tree = encode(message)
        for name, empty in always:
            if name not in tree:
                tree[name] = empty()
        return tree

    def encode_and_inline(message: Message) -> Tree:
        tree = encode_and_fill(message)
        for name in inlined & tree.keys():
            tree.update(tree.pop(name))
        return tree

    if inlined:
        return encode_and_inline
    return encode_and_fill if always else encode


@cache
def decoder(descriptor: Any) -> Decode:
    """The function from the JSON form to what the message's constructor takes."""
    if descriptor.full_name in SPECIAL:
        return _DECODE[SPECIAL[descriptor.full_name]]
    if _stands_for_list(descriptor):
        items = descriptor.fields[0]
        items_in = _decode(items) or list
        return lambda tree: {items.name: items_in(tree)}
    table: dict[str, tuple[str, Decode | None]] = {
        proto.json_name: (proto.name, _decode(proto)) for proto in descriptor.fields
    }
    inlined = [proto for proto in descriptor.fields if _rules(proto).inline]
    for proto in inlined:
        del table[proto.json_name]

    def decode(tree: Tree) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        for name, value in tree.items():
            try:
                argument, convert = table[name]
            except KeyError:
                raise ValueError(f"{descriptor.full_name} has no field {name!r}") from None
            if value is not None:
                arguments[argument] = value if convert is None else convert(value)
        return arguments

    if not inlined:
        return decode
    split = {proto.name: (json_names(proto.message_type), decoder(proto.message_type)) for proto in inlined}

    def decode_inlined(tree: Tree) -> dict[str, Any]:
        parts = {}
        for argument, (names, convert) in split.items():
            if part := {name: value for name, value in tree.items() if name in names}:
                parts[argument] = convert(part)
                tree = {name: value for name, value in tree.items() if name not in names}
        return decode(tree) | parts

    return decode_inlined


@cache
def json_names(descriptor: Any) -> frozenset[str]:
    """The members that a message contributes to a JSON object, those of messages inlined into it included."""
    names: set[str] = set()
    for proto in descriptor.fields:
        names |= json_names(proto.message_type) if _rules(proto).inline else {proto.json_name}
    return frozenset(names)


def _rules(proto: Any) -> options_pb2.FieldRules:
    rules: options_pb2.FieldRules = proto.GetOptions().Extensions[options_pb2.field]
    return rules


def _stands_for_list(descriptor: Any) -> bool:
    return bool(descriptor.GetOptions().Extensions[options_pb2.message].as_list)


def _encode(proto: Any) -> Encode | None:
    if is_map(proto):
        value = _encode_one(proto.message_type.fields_by_name["value"])
        if value is None:
            return lambda entries: {key: entries[key] for key in entries}  # dict(entries) takes twice as long
        return lambda entries: {key: value(entries[key]) for key in entries}
    one = _encode_one(proto)
    if not proto.is_repeated:
        return (lambda message: one(message) or None) if one and _rules(proto).empty_is_unset else one
    if one is None:
        return lambda items: items[:]
    return lambda items: [one(item) for item in items]


def _encode_one(proto: Any) -> Encode | None:
    if proto.message_type is not None:
        return encoder(proto.message_type)
    if proto.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: b64encode(value).decode("ascii")
    return None


def _decode(proto: Any) -> Decode | None:
    if is_map(proto):
        value = _decode_one(proto.message_type.fields_by_name["value"])
        if value is None:
            return None
        return lambda entries: {key: value(entry) for key, entry in entries.items()}
    one = _decode_one(proto)
    if not proto.is_repeated or one is None:
        return one
    return lambda items: [one(item) for item in items]


def _decode_one(proto: Any) -> Decode | None:
    if proto.message_type is not None:
        return decoder(proto.message_type)
    if proto.type == FieldDescriptor.TYPE_BYTES:
        return b64decode
    return None


def _empty(proto: Any) -> Callable[[], Any]:
    """What stands for an absent `always_present` field."""
    if is_map(proto):
        return dict
    if proto.is_repeated:
        return list
    if proto.message_type is None:
        zero: Any = "" if proto.type == FieldDescriptor.TYPE_BYTES else proto.default_value
        return lambda: zero
    if _stands_for_list(proto.message_type):
        return list
    if proto.message_type.full_name in SPECIAL:
        zero = _ZERO.get(SPECIAL[proto.message_type.full_name])
        return lambda: zero
    return lambda: encoder(proto.message_type)(proto.message_type._concrete_class())


# Go's zero time is an empty message; it prints as null, which is left out.
_ENCODE: Final[dict[Type, Encode]] = {
    Type.TIME: lambda time: times.format_time(time.seconds) if time.seconds or time.nanos else None,
    Type.MICRO_TIME: lambda time: (
        times.format_micro_time(time.seconds, time.nanos) if time.seconds or time.nanos else None
    ),
    Type.DURATION: lambda duration: times.format_duration(duration.duration),
    Type.RAW: lambda raw: orjson.loads(raw.raw) if raw.raw else None,
    Type.QUANTITY: lambda quantity: quantity.string or "0",
    Type.INT_OR_STRING: lambda value: value.str_val if value.type else value.int_val,
}


def _decode_time(text: str) -> dict[str, Any]:
    return {"seconds": times.parse_time(text)[0]}


def _decode_micro_time(text: str) -> dict[str, Any]:
    seconds, nanos = times.parse_time(text)
    return {"seconds": seconds, "nanos": nanos}


_DECODE: Final[dict[Type, Decode]] = {
    Type.TIME: _decode_time,
    Type.MICRO_TIME: _decode_micro_time,
    Type.DURATION: lambda text: {"duration": times.parse_duration(text)},
    Type.RAW: lambda tree: {"raw": orjson.dumps(tree)},
    Type.QUANTITY: lambda text: {"string": text},
    Type.INT_OR_STRING: lambda value: {"type": 1, "str_val": value} if isinstance(value, str) else {"int_val": value},
}

_ZERO: Final[dict[Type, Any]] = {Type.QUANTITY: "0", Type.INT_OR_STRING: 0, Type.DURATION: "0s"}
