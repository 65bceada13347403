"""What the kernel has, and the operations that bring it to what it should have. Pure.

A prefix with one hop is a route with its encapsulation. One with several is a route to a group of next-hop objects:
the kernel takes device-only hops for IPv6 destinations in no other way. A prefix changes its hops by one replacing
operation, after the objects that it needs are there and before those that it needed go: it is never without any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address
from typing import NamedTuple

from services.metalbond.installer.desired import Hops, Prefix


class AddHop(NamedTuple):
    """Make the next-hop object of an address, or confirm it."""

    id: int
    address: IPv6Address


class AddGroup(NamedTuple):
    """Make a group of next-hop objects, or confirm it."""

    id: int
    members: tuple[int, ...]


class SetRoute(NamedTuple):
    """Make or replace a route, by a single address or by the id of a group."""

    prefix: Prefix
    via: IPv6Address | int


class DeleteRoute(NamedTuple):
    """Remove a route."""

    prefix: Prefix


class DeleteObject(NamedTuple):
    """Remove a next-hop object or group."""

    id: int


Operation = AddHop | AddGroup | SetRoute | DeleteRoute | DeleteObject


class KernelState(NamedTuple):
    """What was found: routes with the address or the group that they lead to, None for what we would not have written;
    next-hop objects and groups of ours; ids that others use."""

    routes: Mapping[Prefix, IPv6Address | int | None]
    hops: Mapping[int, IPv6Address]
    groups: Mapping[int, tuple[int, ...]]
    taken: frozenset[int] = frozenset()


class Plan:
    """Follows the kernel's state through the operations that it gives out; `ids` are those for objects of ours.

    A failed operation makes that untrue: then a new plan is made of what is found.
    """

    def __init__(self, found: KernelState, ids: range) -> None:
        self._routes: dict[Prefix, Hops | None] = {}  # None: not as we would have written it
        self._ids, self._next = ids, 0
        self._taken = found.taken
        self._hops = {address: number for number, address in found.hops.items()}
        self._groups = {
            tuple(sorted(found.hops[member] for member in members)): number
            for number, members in found.groups.items()
            if all(member in found.hops for member in members)
        }
        self._used = {*found.hops, *found.groups}
        self._stray = self._used - set(self._hops.values()) - set(self._groups.values())
        hops_of = {number: hops for hops, number in self._groups.items()}
        for prefix, via in found.routes.items():
            self._routes[prefix] = (via,) if isinstance(via, IPv6Address) else hops_of.get(via or 0)
        self._group_users: dict[Hops, set[Prefix]] = {}
        for prefix, hops in self._routes.items():
            if hops is not None and len(hops) > 1:
                self._group_users.setdefault(hops, set()).add(prefix)

    @property
    def prefixes(self) -> set[Prefix]:
        """Prefixes that the kernel has a route to."""
        return set(self._routes)

    def change(self, wanted: Iterable[tuple[Prefix, Hops]]) -> list[Operation]:
        """Operations, to be done in this order, after which these prefixes have these hops. Raises RuntimeError when
        there are more objects than ids."""
        before: list[Operation] = []
        routes: list[Operation] = []
        for prefix, hops in wanted:
            present = self._routes.get(prefix, ())
            if present == hops:
                continue
            if len(hops) > 1:
                before += self._group(hops)
                self._group_users.setdefault(hops, set()).add(prefix)
                routes.append(SetRoute(prefix, self._groups[hops]))
            elif hops:
                routes.append(SetRoute(prefix, hops[0]))
            else:
                routes.append(DeleteRoute(prefix))
            if hops:
                self._routes[prefix] = hops
            else:
                del self._routes[prefix]
            if present is not None and len(present) > 1:
                self._group_users[present].discard(prefix)
        return [*before, *routes]

    def tidy(self) -> list[Operation]:
        """Removes objects that no route needs; only after the operations of all changes were done."""
        unused = [hops for hops in self._groups if not self._group_users.get(hops)]
        gone: list[Operation] = [DeleteObject(self._forget(self._groups.pop(hops))) for hops in unused]
        for hops in unused:
            self._group_users.pop(hops, None)
        needed = {address for hops in self._groups for address in hops}
        for address in [address for address in self._hops if address not in needed]:
            gone.append(DeleteObject(self._forget(self._hops.pop(address))))
        gone += [DeleteObject(self._forget(number)) for number in sorted(self._stray)]
        self._stray = set()
        return gone

    def _group(self, hops: Hops) -> Iterator[Operation]:
        if hops in self._groups:
            return
        for address in hops:
            if address not in self._hops:
                self._hops[address] = self._new_id()
                yield AddHop(self._hops[address], address)
        self._groups[hops] = self._new_id()
        yield AddGroup(self._groups[hops], tuple(self._hops[address] for address in hops))

    def _new_id(self) -> int:
        for step in range(len(self._ids)):
            number = self._ids[(self._next + step) % len(self._ids)]
            if number not in self._used and number not in self._taken:
                self._next += step + 1
                self._used.add(number)
                return number
        raise RuntimeError("more next-hop objects than ids for them")

    def _forget(self, number: int) -> int:
        self._used.discard(number)
        return number
