"""Rows and keys as JSON: a dataclass is a list of its name and its fields, in their order.

    ["RouteKey", 100, "0a000000/8"]    ["Function", 1, 100, 7, null, null]

Addresses are in hexadecimal, which is ten times as fast as their usual text. Many routes take a table of next hops and
two columns, so that a million of them are read in seconds.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable
from dataclasses import fields
from enum import IntEnum
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from operator import attrgetter
from typing import Any, Final, NewType, Union, cast, get_args, get_origin, get_type_hints

import orjson

from services.dpservice.model import keys, rows
from services.dpservice.model.changes import AnyChange, Change, RouteChanges, Row
from services.dpservice.model.keys import Key
from services.dpservice.model.rows import Hop, Vni

ROUTES: Final = "routes"
RECORDS: Final[dict[str, type]] = {
    kind.__name__: kind
    for kind in (
        *(keys.InterfaceKey, keys.VipKey, keys.NatKey, keys.NeighborKey, keys.BalancerKey, keys.FirewallKey),
        *(keys.CaptureKey, keys.RouteKey, keys.FunctionKey),
        *(rows.Interface, rows.Vip, rows.NatSlice, rows.Neighbor, rows.Balancer, rows.FirewallRule, rows.Capture),
        *(rows.LocalHop, rows.RemoteHop, rows.Function, rows.IcmpFilter, rows.PortFilter),
    )
}
ADDRESSES: Final = (IPv4Address, IPv6Address)
NETWORKS: Final = (IPv4Network, IPv6Network)
INTERFACES: Final = (IPv4Interface, IPv6Interface)


def encoded(change: AnyChange) -> bytes:
    """A change as JSON. Raises TypeError for a row that is none of the model's."""
    if not isinstance(change, RouteChanges):
        return _json([_plain(change.key), _plain(change.before), _plain(change.after)])
    vni, version, before, after = change
    if not before and len(after) == 1:
        [(number, hop)] = after.items()
        return b'["routes",%d,%d,[%b],[[],[]],[[%d],[0]]]' % (vni, version, _hop_json(hop), number)
    if not after and len(before) == 1:
        [(number, hop)] = before.items()
        return b'["routes",%d,%d,[%b],[[%d],[0]],[[],[]]]' % (vni, version, _hop_json(hop), number)
    hops: dict[int, tuple[int, Hop]] = {}
    columns = _columns(before, hops), _columns(after, hops)
    return _json([ROUTES, vni, version, [_plain(hop) for _, hop in hops.values()], *columns])


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # numbers of IPv6 routes are longer than 64 bits
        return json.dumps(value, separators=(",", ":")).encode()


def decoded(value: list[Any]) -> AnyChange:
    """The opposite, of what JSON was read to. Raises ValueError, KeyError, TypeError."""
    if value[0] == ROUTES:
        _, vni, version, hop_values, before, after = value
        hops = [cast(Hop, _record(each)) for each in hop_values]
        return RouteChanges(Vni(vni), version, _routes(before, hops), _routes(after, hops))
    key, before, after = value
    return Change(cast(Key, _record(key)), cast(Row | None, _record(before)), cast(Row | None, _record(after)))


@lru_cache(65536)
def _hop_json(hop: Hop) -> bytes:
    """Next hops are few and routes many."""
    return _json(_plain(hop))


def _columns(routes: dict[int, Hop], hops: dict[int, tuple[int, Hop]]) -> list[list[int]]:
    """Numbers, and for each the place of its hop in the table; hops are told apart by identity, which is cheap."""
    places = [hops.setdefault(id(hop), (len(hops), hop))[0] for hop in routes.values()]
    return [list(routes), places]


def _routes(columns: list[list[int]], hops: list[Hop]) -> dict[int, Hop]:
    numbers, indexes = columns
    return {number: hops[index] for number, index in zip(numbers, indexes, strict=True)}


def _plain(value: object) -> Any:
    kind: type = type(value)
    write = _WRITERS.get(kind)
    if write is not None:
        return write(value)
    if RECORDS.get(kind.__name__) is not kind:
        raise TypeError(f"not journaled: {value}")
    return [kind.__name__, *[_plain(each) for each in _values(kind)(value)]]


def _same(value: Any) -> Any:
    return value


_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    **dict.fromkeys((type(None), bool, str, int), _same),
    **dict.fromkeys((rows.FunctionKind, rows.Protocol, rows.Direction), int),
    tuple: lambda value: [_plain(each) for each in value],
    **dict.fromkeys((IPv4Address, IPv6Address), lambda value: value.packed.hex()),
    **dict.fromkeys(NETWORKS, lambda value: f"{value.network_address.packed.hex()}/{value.prefixlen}"),
    **dict.fromkeys(INTERFACES, lambda value: f"{value.packed.hex()}/{value.network.prefixlen}"),
}


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _values(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    """Reads all fields at once."""
    names = _names(kind)
    if not names:
        return lambda value: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


def _record(value: list[Any] | None) -> object:
    if value is None:
        return None
    kind = RECORDS[value[0]]
    readers = _readers(kind)
    if len(readers) != len(value) - 1:
        raise ValueError(f"{value[0]} has {len(readers)} fields, not {len(value) - 1}")
    return kind(*(read(each) for read, each in zip(readers, value[1:], strict=True)))


@cache
def _readers(kind: type) -> tuple[Callable[[Any], Any], ...]:
    hints = get_type_hints(kind)
    return tuple(_reader(hints[name]) for name in _names(kind))


def _reader(hint: Any) -> Callable[[Any], Any]:
    """How a field of that type is read back. Raises TypeError for a type that no reader is known for."""
    if isinstance(hint, NewType):
        return _reader(hint.__supertype__)
    if get_origin(hint) is tuple:
        return _tuple_reader(get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return _union_reader(get_args(hint))
    if hint in ADDRESSES:
        return _read_address
    if hint in NETWORKS:
        return _read_network
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return hint
    if hint in (int, str, bool):
        return lambda value: _checked(hint, value)
    raise TypeError(f"no way to read {hint}")


def _tuple_reader(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    if arguments[-1] is Ellipsis:
        item = _reader(arguments[0])
        return lambda value: tuple(item(each) for each in value)
    items = [_reader(argument) for argument in arguments]
    return lambda value: tuple(item(each) for item, each in zip(items, value, strict=True))


def _union_reader(arguments: Iterable[Any]) -> Callable[[Any], Any]:
    """Of an optional field, of an address or network of either family, of records, of an id or a number."""
    kinds = [each.__supertype__ if isinstance(each, NewType) else each for each in arguments if each is not type(None)]
    if len(kinds) == 1:
        only = _reader(kinds[0])
        return lambda value: None if value is None else only(value)
    if set(kinds) == {IPv4Address, IPv6Address}:
        return _optional(_read_address)
    if set(kinds) == {*NETWORKS}:
        return _optional(_read_network)
    if set(kinds) == {*INTERFACES}:
        return _read_interface
    if all(kind in RECORDS.values() for kind in kinds):
        return _record
    if set(kinds) == {str, int}:
        return lambda value: value
    raise TypeError(f"no way to read one of {kinds}")


@lru_cache(65536)
def _read_address(text: str) -> rows.IPAddress:
    """The same object for the same address: next hops are few and routes many."""
    raw = bytes.fromhex(text)
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)


def _read_network(text: str) -> rows.IPNetwork:
    address, _, length = text.partition("/")
    raw = bytes.fromhex(address)
    return IPv4Network((raw, int(length))) if len(raw) == 4 else IPv6Network((raw, int(length)))


def _read_interface(text: str) -> rows.IPInterface:
    address, _, length = text.partition("/")
    raw = bytes.fromhex(address)
    return IPv4Interface((raw, int(length))) if len(raw) == 4 else IPv6Interface((raw, int(length)))


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _checked(kind: type, value: object) -> object:
    if type(value) is not kind:
        raise ValueError(f"{value!r} is not {kind.__name__}")
    return value
