"""What the kernel has, and the operations that bring it to what it should have. Pure.

Every hop is a next-hop object of its own, every set of several hops a group of them, and routes lead to one of these:

- the kernel takes device-only hops for IPv6 destinations in no other way once there are two;
- it looks for a route's equal among all that differ in nothing but their encapsulation: ten thousand routes that carry
  theirs themselves take a minute, routes to objects take a second.

A prefix changes its hops by one replacing operation, after the objects that it needs are there and before those that it
needed go: it is never without any.
"""

from __future__ import annotations

from collections import Counter
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
    """A route to a next-hop object or group: made, or in place of ours. Another's is never replaced."""

    prefix: Prefix
    via: int
    replace: bool = True


class DeleteRoute(NamedTuple):
    """Remove a route."""

    prefix: Prefix


class DeleteObject(NamedTuple):
    """Remove a next-hop object or group."""

    id: int


Operation = AddHop | AddGroup | SetRoute | DeleteRoute | DeleteObject


class KernelState(NamedTuple):
    """What was found: routes with the object that they lead to, None for what we would not have written; next-hop
    objects and groups of ours, without members those that we would not have written; ids that others use."""

    routes: Mapping[Prefix, int | None]
    hops: Mapping[int, IPv6Address]
    groups: Mapping[int, tuple[int, ...]]
    taken: frozenset[int] = frozenset()


class Plan:
    """Follows the kernel's state through the operations that it gives out; `ids` are those for objects of ours.

    A failed operation makes that untrue: then a new plan is made of what is found.
    """

    def __init__(self, found: KernelState, ids: range) -> None:
        self._ids, self._next, self._taken = ids, 0, found.taken
        self._objects: dict[Hops, int] = {(address,): number for number, address in found.hops.items()}
        for number, members in found.groups.items():
            if members and all(member in found.hops for member in members):
                self._objects[tuple(sorted(found.hops[member] for member in members))] = number
        self._used = {*found.hops, *found.groups}
        self._stray = self._used - set(self._objects.values())
        hops_of = {number: hops for hops, number in self._objects.items()}
        # None: not as we would have written it.
        self._routes: dict[Prefix, Hops | None] = {
            prefix: None if via is None else hops_of.get(via) for prefix, via in found.routes.items()
        }
        self._users = Counter(hops for hops in self._routes.values() if hops is not None)
        for hops in [hops for hops in self._objects if len(hops) > 1]:
            self._users.update((address,) for address in hops)
        self._idle = {hops for hops in self._objects if not self._users[hops]}

    @property
    def prefixes(self) -> set[Prefix]:
        """Prefixes that the kernel has a route to."""
        return set(self._routes)

    def change(self, wanted: Iterable[tuple[Prefix, Hops]]) -> list[Operation]:
        """Operations, to be done in this order, after which these prefixes have these hops. Raises RuntimeError when
        there are more objects than ids."""
        objects: list[Operation] = []
        routes: list[Operation] = []
        for prefix, hops in wanted:
            present = self._routes.get(prefix, ())
            if present == hops:
                continue
            if hops:
                objects += self._object(hops)
                self._use(hops)
                routes.append(SetRoute(prefix, self._objects[hops], replace=prefix in self._routes))
                self._routes[prefix] = hops
            else:
                routes.append(DeleteRoute(prefix))
                del self._routes[prefix]
            if present:
                self._leave(present)
        return [*objects, *routes]

    def occupied(self, prefix: Prefix) -> None:
        """The route was not made because somebody else has one to the prefix."""
        hops = self._routes.pop(prefix)
        if hops:
            self._leave(hops)

    def tidy(self) -> list[Operation]:
        """Removes objects that no route needs; only after the operations of all changes were done."""
        gone: list[Operation] = []
        for hops in [hops for hops in self._idle if len(hops) > 1]:  # before their members
            gone.append(self._delete(self._objects.pop(hops)))
            for address in hops:
                self._leave((address,))
        gone += [self._delete(self._objects.pop(hops)) for hops in self._idle if len(hops) == 1]
        self._idle = set()
        # With an object the kernel drops the routes that lead to it: those still have to be swept or replaced.
        if self._stray and None not in self._routes.values():
            gone += [self._delete(number) for number in sorted(self._stray)]
            self._stray = set()
        return gone

    def _object(self, hops: Hops) -> Iterator[Operation]:
        if hops in self._objects:
            return
        if len(hops) == 1:
            self._objects[hops] = self._new_id()
            yield AddHop(self._objects[hops], hops[0])
            return
        for address in hops:
            yield from self._object((address,))
            self._use((address,))
        self._objects[hops] = self._new_id()
        yield AddGroup(self._objects[hops], tuple(self._objects[(address,)] for address in hops))

    def _use(self, hops: Hops) -> None:
        self._users[hops] += 1
        self._idle.discard(hops)

    def _leave(self, hops: Hops) -> None:
        self._users[hops] -= 1
        if not self._users[hops]:
            del self._users[hops]
            self._idle.add(hops)

    def _new_id(self) -> int:
        for step in range(len(self._ids)):
            number = self._ids[(self._next + step) % len(self._ids)]
            if number not in self._used and number not in self._taken:
                self._next += step + 1
                self._used.add(number)
                return number
        raise RuntimeError("more next-hop objects than ids for them")

    def _delete(self, number: int) -> DeleteObject:
        self._used.discard(number)
        return DeleteObject(number)
