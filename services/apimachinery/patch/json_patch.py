"""JSON patch (RFC 6902) on JSON pointers (RFC 6901)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from services.apimachinery.errors import BadRequest, Cause, Invalid

# Copies can double a document with each operation, so a patch has a limit, as Kubernetes' API servers set it.
_MOST_OPERATIONS: Final = 10_000
_MOST_COPIED: Final = 100_000

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


def apply_json_patch(document: Any, operations: Any) -> Any:
    """The patched document. BadRequest for a malformed patch, Invalid where an operation can't be carried out."""
    if not isinstance(operations, list):
        raise BadRequest("a JSON patch must be an array of operations")
    if len(operations) > _MOST_OPERATIONS:
        raise BadRequest(f"a JSON patch may have at most {_MOST_OPERATIONS} operations, not {len(operations)}")
    try:
        return _Patch(_copied(document)).run(operations)
    except (RecursionError, orjson.JSONEncodeError) as error:
        raise BadRequest("the JSON patch is nested too deeply") from error


class _Patch:
    def __init__(self, document: Any) -> None:
        self.document = document
        self.copied = 0

    def run(self, operations: list[Any]) -> Any:
        for at, operation in enumerate(operations):
            if not isinstance(operation, dict):
                raise BadRequest(f"operation {at} of the JSON patch is not an object")
            step = _STEPS.get(str(operation.get("op")))
            if step is None:
                raise BadRequest(f"operation {at} of the JSON patch: unknown op {operation.get('op')!r}")
            try:
                step(self, operation)
            except _Malformed as error:
                raise BadRequest(f"operation {at} of the JSON patch: {error}") from error
            except _Failed as error:
                place = str(operation.get("path"))
                message = f"the JSON patch can't be applied: {operation['op']} {place}: {error}"
                raise Invalid(message, [Cause(place, "FieldValueInvalid", str(error))]) from error
        return self.document

    def add(self, operation: dict[str, Any]) -> None:
        self._add(_pointer(operation, "path"), _value(operation))

    def remove(self, operation: dict[str, Any]) -> None:
        self._take(_pointer(operation, "path"))

    def replace(self, operation: dict[str, Any]) -> None:
        path, value = _pointer(operation, "path"), _value(operation)
        if not path:
            self.document = value
            return
        parent = self._get(path[:-1])
        _get_member(parent, path[-1])
        parent[_key(parent, path[-1])] = value

    def move(self, operation: dict[str, Any]) -> None:
        source, target = _pointer(operation, "from"), _pointer(operation, "path")
        if source == target[: len(source)] and len(source) < len(target):
            raise _Failed("a value can't be moved into itself")
        self._add(target, self._take(source))

    def copy(self, operation: dict[str, Any]) -> None:
        value = _copied(self._get(_pointer(operation, "from")))
        self.copied += _size(value)
        if self.copied > _MOST_COPIED:
            raise _Malformed(f"the patch copies more than {_MOST_COPIED} values")
        self._add(_pointer(operation, "path"), value)

    def test(self, operation: dict[str, Any]) -> None:
        expected = _value(operation)
        if not _equal(self._get(_pointer(operation, "path")), expected):
            raise _Failed("the value is not the one that the test expects")

    def _get(self, path: list[str]) -> Any:
        value = self.document
        for name in path:
            value = _get_member(value, name)
        return value

    def _add(self, path: list[str], value: Any) -> None:
        if not path:
            self.document = value
            return
        parent = self._get(path[:-1])
        if isinstance(parent, dict):
            parent[path[-1]] = value
        elif isinstance(parent, list):
            at = len(parent) if path[-1] == "-" else _index(path[-1])
            if at > len(parent):
                raise _Failed(f"index {at} lies behind the end of the array of {len(parent)}")
            parent.insert(at, value)
        else:
            raise _Failed(f"{path[-1]!r} would lie inside a value that is neither object nor array")

    def _take(self, path: list[str]) -> Any:
        if not path:
            value, self.document = self.document, None
            return value
        parent = self._get(path[:-1])
        _get_member(parent, path[-1])
        return parent.pop(_key(parent, path[-1]))


_STEPS: Final[dict[str, Callable[[_Patch, dict[str, Any]], None]]] = {
    "add": _Patch.add,
    "remove": _Patch.remove,
    "replace": _Patch.replace,
    "move": _Patch.move,
    "copy": _Patch.copy,
    "test": _Patch.test,
}


class _Malformed(Exception):
    """The operation itself is wrong."""


class _Failed(Exception):
    """The document doesn't allow the operation."""


def _pointer(operation: dict[str, Any], name: str) -> list[str]:
    text = operation.get(name)
    if not isinstance(text, str):
        raise _Malformed(f"{name!r} must be a string")
    if not text:
        return []
    if not text.startswith("/"):
        raise _Malformed(f"{name!r} must be empty or begin with '/'")
    if re.search(r"~(?![01])", text):
        raise _Malformed(f"{name!r} has a '~' that is neither '~0' nor '~1'")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise _Malformed("'value' is missing")
    return _copied(operation["value"])


def _index(name: str) -> int:
    if not _INDEX.fullmatch(name):
        raise _Failed(f"{name!r} is no array index")
    return int(name)


def _key(parent: Any, name: str) -> Any:
    return _index(name) if isinstance(parent, list) else name


def _get_member(parent: Any, name: str) -> Any:
    if isinstance(parent, dict) and name in parent:
        return parent[name]
    if isinstance(parent, list) and _index(name) < len(parent):
        return parent[_index(name)]
    raise _Failed(f"there is no {name!r}")


def _equal(one: Any, other: Any) -> bool:
    """Equality of JSON: true is not 1, but 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    numbers = type(one) in (int, float) and type(other) in (int, float)
    return (numbers or type(one) is type(other)) and bool(one == other)


def _copied(value: Any) -> Any:
    """A deep copy of a JSON value; through its text it takes a tenth of copy.deepcopy's time."""
    return orjson.loads(orjson.dumps(value))


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(_size(each) for each in value.values())
    return 1 + sum(_size(each) for each in value) if isinstance(value, list) else 1
