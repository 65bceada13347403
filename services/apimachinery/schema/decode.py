"""From what a client sent to a canonical tree: known fields only, right types, canonical quantities and times.

Unknown and repeated fields are refused, reported or dropped, as the request's `fieldValidation` says. A value of the
wrong type is refused always.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any, Final, NoReturn

import orjson

from services.apimachinery.errors import BadRequest
from services.apimachinery.kinds import Kind
from services.apimachinery.schema import times
from services.apimachinery.schema.parse import (
    Duplicated,
    duplicate_fields,
    parse_json,
    parse_json_marking_duplicates,
    parse_yaml,
)
from services.apimachinery.schema.quantity import canonical
from services.apimachinery.schema.schema import INTEGER_BOUNDS, Field, Schema, Tree, Type, schema_of

__all__ = ["Decoded", "FieldValidation", "decode", "normalise", "parse_json", "parse_yaml", "prune_applied"]


class FieldValidation(Enum):
    """What becomes of unknown and repeated fields; the words of the query parameter."""

    STRICT = "Strict"
    WARN = "Warn"
    IGNORE = "Ignore"


@dataclass
class Decoded:
    """A canonical tree, and what to tell the client beside it."""

    tree: Tree
    warnings: list[str] = field(default_factory=list)


def decode(
    kind: Kind[Any], body: bytes, validation: FieldValidation = FieldValidation.IGNORE, *, yaml: bool = False
) -> Decoded:
    """The canonical tree of a request's body; BadRequest when it isn't an object of this kind."""
    if yaml:
        tree = parse_yaml(body)
    elif validation is FieldValidation.IGNORE:
        tree = parse_json(body)
    else:
        tree = parse_json_marking_duplicates(body)
    return normalise(kind, tree, validation)


def normalise(kind: Kind[Any], tree: Any, validation: FieldValidation = FieldValidation.IGNORE) -> Decoded:
    """The canonical tree of a parsed or patched one; the input stays as it is. BadRequest as `decode`."""
    return _normalise(kind, tree, validation, keep_empty=False)


def prune_applied(kind: Kind[Any], tree: Any, validation: FieldValidation = FieldValidation.IGNORE) -> Decoded:
    """As `normalise`, for an applied configuration: empty values stay, since their manager owns them."""
    return _normalise(kind, tree, validation, keep_empty=True)


def canonical_value(schema: Schema, value: Any) -> Any:
    """The canonical form of a value that Ferrite's own protos state; ValueError when it doesn't fit its type."""
    try:
        return _normaliser(schema, _Manner(keep_empty=False, careful=False))(value)
    except _Mismatch as error:
        raise ValueError(f"{error.path}: {error}") from error


def _normalise(kind: Kind[Any], tree: Any, validation: FieldValidation, *, keep_empty: bool) -> Decoded:
    _check_type(kind, tree)
    schema = schema_of(kind)
    problems: list[str] = []
    try:
        try:
            body = _normaliser(schema, _Manner(keep_empty, careful=validation is not FieldValidation.IGNORE))(tree)
        except _UnusualField:
            body = _normaliser(schema, _Manner(keep_empty, careful=False))(tree)
            problems += [f'unknown field "{path}"' for path in _unknown_fields(schema, tree, "")]
            problems += [f'duplicate field "{path}"' for path in duplicate_fields(tree)]
    except _Mismatch as error:
        raise _unfit(kind, f"{error.path}: {error}") from error
    if problems and validation is FieldValidation.STRICT:
        raise _unfit(kind, f"strict decoding error: {', '.join(problems)}")
    return Decoded({"apiVersion": kind.api_version, "kind": kind.name} | body, problems)


def _unfit(kind: Kind[Any], why: str) -> BadRequest:
    return BadRequest(f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: {why}')


def _check_type(kind: Kind[Any], tree: Any) -> None:
    if not isinstance(tree, dict):
        raise _unfit(kind, f"expected an object, got {_word(tree)}")
    for name, expected in (("apiVersion", kind.api_version), ("kind", kind.name)):
        given = tree.get(name)
        if given and given != expected:
            raise BadRequest(f"the {name} in the data ({given}) does not match the expected {name} ({expected})")


@dataclass(frozen=True)
class _Manner:
    """How to normalise: whether empty values stay, and whether to stop at an unknown or repeated field."""

    keep_empty: bool
    careful: bool


class _UnusualField(Exception):
    """There is an unknown or a repeated field: rare, so that finding all of them may take its time."""


class _Mismatch(Exception):
    """A value that its schema refuses; the path grows while the exception travels outwards."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.steps: list[str] = []

    @property
    def path(self) -> str:
        return "".join(reversed(self.steps)).lstrip(".")


Normalise = Callable[[Any], Any]


@cache
def _normaliser(schema: Schema, manner: _Manner) -> Normalise:
    if schema.type is Type.OBJECT:
        return _object(schema, manner)
    if schema.type is Type.LIST:
        return _list(schema.of, manner)
    if schema.type is Type.MAP:
        return _map(schema.of, manner)
    if schema.type is Type.INTEGER:
        return _integer(*INTEGER_BOUNDS[schema.format])
    return _SCALARS[schema.type]


def _object(schema: Schema, manner: _Manner) -> Normalise:
    steps = {
        member.name: (_normaliser(member.schema, manner), not manner.keep_empty and _omits_empty(member))
        for member in schema.fields.values()
    }
    always = [] if manner.keep_empty else [(m.name, m.schema) for m in schema.fields.values() if m.rules.always_present]

    careful = manner.careful

    def normalise_object(tree: Any) -> Tree:
        if not isinstance(tree, dict):
            _refuse("object", tree)
        if careful and (type(tree) is Duplicated or not tree.keys() <= steps.keys()):
            raise _UnusualField
        out = {}
        for name, value in tree.items():
            step = steps.get(name)
            if step is None or value is None:
                continue
            try:
                fit = step[0](value)
            except _Mismatch as error:
                error.steps.append(f".{name}")
                raise
            if fit or not step[1]:
                out[name] = fit
        for name, of in always:
            if name not in out:
                out[name] = _zero(of)
        return out

    return normalise_object


def _omits_empty(member: Field) -> bool:
    """True where the message could not tell an empty value from an absent one."""
    if member.schema.type is Type.OBJECT:
        return bool(member.rules.empty_is_unset)
    return not member.optional


def _zero(schema: Schema) -> Any:
    """What stands for an absent `always_present` field."""
    if schema.type is Type.OBJECT:
        return _normaliser(schema, _Manner(keep_empty=False, careful=False))({})
    made = {
        Type.LIST: list,
        Type.MAP: dict,
        Type.BOOLEAN: bool,
        Type.INTEGER: int,
        Type.NUMBER: float,
        Type.INT_OR_STRING: int,
    }
    if schema.type in made:
        return made[schema.type]()
    return {Type.STRING: "", Type.BYTES: "", Type.DURATION: "0s", Type.QUANTITY: "0"}.get(schema.type)


def _list(item: Schema, manner: _Manner) -> Normalise:
    convert = _normaliser(item, manner)

    def normalise_list(values: Any) -> list[Any]:
        if not isinstance(values, list):
            _refuse("array", values)
        out = []
        for at, value in enumerate(values):
            try:
                out.append(_zero(item) if value is None else convert(value))
            except _Mismatch as error:
                error.steps.append(f"[{at}]")
                raise
        return out

    return normalise_list


def _map(item: Schema, manner: _Manner) -> Normalise:
    convert = _normaliser(item, manner)

    careful = manner.careful

    def normalise_map(entries: Any) -> Tree:
        if not isinstance(entries, dict):
            _refuse("object", entries)
        if careful and type(entries) is Duplicated:
            raise _UnusualField
        out = {}
        for name, value in entries.items():
            try:
                out[name] = _zero(item) if value is None else convert(value)
            except _Mismatch as error:
                error.steps.append(f".{name}")
                raise
        return out

    return normalise_map


def _refuse(expected: str, value: Any) -> NoReturn:
    raise _Mismatch(f"expected {expected}, got {_word(value)}")


def _word(value: Any) -> str:
    words = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    return next((word for python, word in words.items() if isinstance(value, python)), "null")


def _integer(low: int, high: int) -> Normalise:
    def normalise_integer(value: Any) -> int:
        if type(value) is not int:
            _refuse("integer", value)
        if not low <= value <= high:
            raise _Mismatch(f"{value} is not within {low} to {high}")
        return value

    return normalise_integer


def _number(value: Any) -> float | int:
    if type(value) not in (int, float):
        _refuse("number", value)
    number: float | int = value
    return number


def _string(value: Any) -> str:
    if type(value) is not str:
        _refuse("string", value)
    text: str = value
    return text


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        _refuse("boolean", value)
    flag: bool = value
    return flag


def _bytes(value: Any) -> str:
    text = _string(value)
    try:
        b64decode(text, validate=True)
    except ValueError as error:
        raise _Mismatch(f"expected base64 text: {error}") from error
    return text


def _quantity(value: Any) -> str:
    if type(value) in (int, float):
        value = repr(value)
    try:
        return canonical(_string(value)) if value != "" else ""
    except ValueError as error:
        raise _Mismatch(str(error)) from error


def _time(value: Any) -> str | None:
    try:
        seconds, nanos = times.parse_time(_string(value))
        return times.format_time(seconds) if seconds or nanos else None
    except ValueError as error:
        raise _Mismatch(str(error)) from error


def _micro_time(value: Any) -> str | None:
    try:
        seconds, nanos = times.parse_time(_string(value))
        return times.format_micro_time(seconds, nanos) if seconds or nanos else None
    except ValueError as error:
        raise _Mismatch(str(error)) from error


def _duration(value: Any) -> str:
    try:
        return times.format_duration(times.parse_duration(_string(value)))
    except ValueError as error:
        raise _Mismatch(str(error)) from error


def _raw(value: Any) -> Any:
    """Any JSON, but not so deep that orjson couldn't write it (254 levels) inside an object, a list and an event."""
    wrapped = value
    for _ in range(_MARGIN):
        wrapped = [wrapped]
    try:
        orjson.dumps(wrapped)
    except orjson.JSONEncodeError as error:
        raise _Mismatch("the value is nested too deeply") from error
    return value


_MARGIN: Final = 32


def _int_or_string(value: Any) -> int | str:
    if type(value) is int:
        return int(_normaliser_int32(value))
    return _string(value)


_normaliser_int32: Final = _integer(*INTEGER_BOUNDS["int32"])

_SCALARS: Final[dict[Type, Normalise]] = {
    Type.STRING: _string,
    Type.NUMBER: _number,
    Type.BOOLEAN: _boolean,
    Type.BYTES: _bytes,
    Type.TIME: _time,
    Type.MICRO_TIME: _micro_time,
    Type.QUANTITY: _quantity,
    Type.INT_OR_STRING: _int_or_string,
    Type.DURATION: _duration,
    Type.RAW: _raw,
}


def _unknown_fields(schema: Schema, tree: Any, path: str) -> Iterator[str]:
    """Paths of the members that the schema doesn't know, wherever the shape allows to look."""
    if schema.type is Type.OBJECT and isinstance(tree, dict):
        for name, value in tree.items():
            below = f"{path}.{name}" if path else name
            if name not in schema.fields:
                yield below
            else:
                yield from _unknown_fields(schema.fields[name].schema, value, below)
    elif schema.type is Type.LIST and isinstance(tree, list):
        for at, value in enumerate(tree):
            yield from _unknown_fields(schema.of, value, f"{path}[{at}]")
    elif schema.type is Type.MAP and isinstance(tree, dict):
        for name, value in tree.items():
            yield from _unknown_fields(schema.of, value, f"{path}.{name}")
