"""Bytes to JSON values: fast where duplicate keys don't matter, else by a pass that finds them. JSON and YAML 1.2."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import orjson
import yaml

from services.apimachinery.errors import BadRequest

# A YAML document may repeat parts by reference; beyond this many values it is an attack.
_MAX_VALUES: Final = 1_000_000


class Duplicated(dict[str, Any]):
    """An object that names some members twice; the last value of each counts."""

    names: tuple[str, ...] = ()


def parse_json(body: bytes) -> Any:
    """The value of a JSON text; BadRequest with the place of a syntax error, or for absurd nesting."""
    return _parsed(body)[0]


def _parsed(body: bytes) -> tuple[Any, bytes]:
    """The value of a JSON text, and its compact form."""
    try:
        tree = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    return tree, _storable(tree)


def _storable(tree: Any) -> bytes:
    """The value as JSON; what can be read but not written (nested more than 254 deep) is refused at the door."""
    try:
        return orjson.dumps(tree)
    except orjson.JSONEncodeError as error:
        raise BadRequest(f"the body is nested too deeply or has values that JSON lacks: {error}") from error


def parse_json_marking_duplicates(body: bytes) -> Any:
    """As `parse_json`, with a `Duplicated` where an object repeats a name."""
    fast, compact = _parsed(body)  # refuses what the standard library's parser lets pass: NaN, bad UTF-8
    if compact == body.strip():
        return fast  # nothing was lost
    marked = False

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal marked
        members = dict(pairs)
        if len(members) == len(pairs):
            return members
        marked = True
        return _duplicated(members, [name for name, _ in pairs])

    slow = json.loads(body, object_pairs_hook=build)
    return slow if marked else fast


def parse_yaml(body: bytes) -> Any:
    """The value of one YAML document, with a `Duplicated` where a mapping repeats a key; BadRequest otherwise.

    Only `true` and `false` are booleans and times stay strings, as in YAML 1.2: `power: On` means the string.
    """
    try:
        tree = yaml.load(body, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadRequest(f"the body is not valid YAML: {' '.join(str(error).split())}") from error
    if _count(tree, {}) > _MAX_VALUES:
        raise BadRequest(f"the YAML document stands for more than {_MAX_VALUES} values")
    _storable(tree)
    return tree


def duplicate_fields(tree: Any, path: str = "") -> Iterator[str]:
    """Paths of all members that were given twice."""
    if isinstance(tree, dict):
        if isinstance(tree, Duplicated):
            yield from (f"{path}.{name}".lstrip(".") for name in tree.names)
        for name, value in tree.items():
            yield from duplicate_fields(value, f"{path}.{name}".lstrip("."))
    elif isinstance(tree, list):
        for at, value in enumerate(tree):
            yield from duplicate_fields(value, f"{path}[{at}]")


def _duplicated(members: dict[str, Any], names: list[str]) -> Duplicated:
    marked = Duplicated(members)
    marked.names = tuple(name for name in members if names.count(name) > 1)
    return marked


class _Loader(yaml.CSafeLoader):
    """Safe YAML with the booleans, numbers and nulls of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    pairs = [
        (loader.construct_object(key, deep=True), loader.construct_object(value, deep=True))
        for key, value in node.value
    ]
    names = [name if isinstance(name, str) else json.dumps(name) for name, _ in pairs]
    members = dict(zip(names, (value for _, value in pairs), strict=True))
    return members if len(members) == len(names) else _duplicated(members, names)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def _count(tree: Any, known: dict[int, int]) -> int:
    """How many values a tree stands for, shared parts counted as often as they occur."""
    if not isinstance(tree, dict | list):
        return 1
    if id(tree) not in known:
        known[id(tree)] = _MAX_VALUES  # for a value that contains itself
        parts = tree.values() if isinstance(tree, dict) else tree
        known[id(tree)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(tree)]
