"""Changes of rows, of one or of a million routes, and what makes one table of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, TypeAlias

from services.dpservice.model.keys import Key, PortKey, RouteKey
from services.dpservice.model.packet_rows import AllowedSource, PacketBalancer, Port, Public, Rules
from services.dpservice.model.rows import (
    Balancer,
    Capture,
    FirewallRule,
    Function,
    Hop,
    Interface,
    IPNetwork,
    LocalHop,
    NatSlice,
    Neighbor,
    RemoteHop,
    Vip,
    Vni,
)

Row: TypeAlias = (
    Interface
    | Vip
    | NatSlice
    | Neighbor
    | Balancer
    | FirewallRule
    | Capture
    | Hop
    | Function
    | Port
    | Public
    | PacketBalancer
    | Rules
    | AllowedSource
)
Rows: TypeAlias = dict[Key, Row]


@dataclass(frozen=True, slots=True)
class Change:
    """A row that appears (`before` is None), goes (`after` is None) or changes."""

    key: Key
    before: Row | None
    after: Row | None


class RouteChanges(NamedTuple):
    """Routes of one family of a VNI, one or a million, at once: those in `before` alone go, all in `after` are put.

    Routes are numbered (see `route_number`), which takes a tenth of the memory and time of networks.
    """

    vni: Vni
    version: int
    before: dict[int, Hop]
    after: dict[int, Hop]


AnyChange: TypeAlias = Change | RouteChanges
RouteTables: TypeAlias = dict[tuple[Vni, int], dict[int, Hop]]
"""Routes by VNI and IP version, then by number."""


class RoutePrefix(NamedTuple):
    """A prefix by IP version and number (see `route_number`): what a single route is changed by."""

    version: int
    number: int


def numbered(prefix: IPNetwork) -> RoutePrefix:
    """A prefix as routes are changed by."""
    return RoutePrefix(prefix.version, route_number(prefix))


def route_number(prefix: IPNetwork) -> int:
    """A prefix as a number: the address, then the length in the lowest byte. Sorts as prefixes do."""
    return int(prefix.network_address) << 8 | prefix.prefixlen


def route_prefix(number: int, version: int) -> IPNetwork:
    """The prefix of that number."""
    parts = number >> 8, number & 0xFF
    return IPv4Network(parts) if version == 4 else IPv6Network(parts)


def one_by_one(changes: Iterable[AnyChange]) -> Iterator[Change]:
    """The same with a change for each route."""
    for change in changes:
        if isinstance(change, Change):
            yield change
            continue
        for number in {**change.before, **change.after}:
            key = RouteKey(change.vni, route_prefix(number, change.version))
            yield Change(key, change.before.get(number), change.after.get(number))


def as_routes(key: RouteKey, change: Change) -> RouteChanges:
    """The same change of a route."""
    number = route_number(key.prefix)
    before, after = _as_hops(number, change.before), _as_hops(number, change.after)
    return RouteChanges(key.vni, key.prefix.version, before, after)


def _as_hops(number: int, row: Row | None) -> dict[int, Hop]:
    return {number: row} if isinstance(row, LocalHop | RemoteHop) else {}


def inverted(changes: Sequence[AnyChange]) -> list[AnyChange]:
    """What takes `changes` back, last first."""
    return [_inverse(change) for change in reversed(changes)]


def _inverse(change: AnyChange) -> AnyChange:
    if isinstance(change, RouteChanges):
        return RouteChanges(change.vni, change.version, before=change.after, after=change.before)
    return Change(change.key, before=change.after, after=change.before)


def difference(found: Rows, wanted: Rows) -> list[AnyChange]:
    """What makes `wanted` of `found`: what goes before what comes, ports after what refers to them and vice versa."""
    gone = [Change(key, row, None) for key, row in found.items() if key not in wanted]
    fresh = [Change(key, found.get(key), row) for key, row in wanted.items() if found.get(key) != row]
    return [*sorted(gone, key=_ports_last), *sorted(fresh, key=_ports_last, reverse=True)]


def _ports_last(change: Change) -> bool:
    return isinstance(change.key, PortKey)


def route_difference(found: RouteTables, wanted: RouteTables) -> list[AnyChange]:
    """The same for routes. A million of them share few hops, so that each pair of hops is compared once."""
    changes: list[AnyChange] = []
    unlike: dict[tuple[int, int], bool] = {}
    for vni, version in found.keys() | wanted.keys():
        old, new = found.get((vni, version), {}), wanted.get((vni, version), {})
        before = {number: hop for number, hop in old.items() if number not in new}
        after = {}
        for number, hop in new.items():
            other = old.get(number)
            pair = id(other), id(hop)
            if pair not in unlike:
                unlike[pair] = other != hop
            if unlike[pair]:
                after[number] = hop
                if other is not None:
                    before[number] = other
        if before or after:
            changes.append(RouteChanges(vni, version, before, after))
    return changes


def apply_to(rows: Rows, changes: Iterable[AnyChange]) -> None:
    """Puts changes into a plain table of rows."""
    for change in one_by_one(changes):
        if change.after is None:
            rows.pop(change.key, None)
        else:
            rows[change.key] = change.after
