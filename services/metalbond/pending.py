"""What one receiver has yet to hear, coalesced on the routes: no queue, so a slow receiver costs bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from services.metalbond.wire import RouteFrame, removal

_TAKEN_AT_ONCE: Final = 512


class Pending:
    """The difference between what a receiver was told and what it should know.

    A route is in `added` or `removed` exactly while these differ for it, so a route that comes and goes unheard leaves
    no trace, and the size never exceeds the routes told plus the routes there are. Routes that came are told before
    routes that went: a destination that moves is never without a next hop.
    """

    __slots__ = ("added", "removed", "repeated")

    def __init__(self) -> None:
        self.added: dict[RouteFrame, None] = {}
        self.removed: dict[RouteFrame, None] = {}
        self.repeated: dict[RouteFrame, None] = {}

    def __len__(self) -> int:
        return len(self.added) + len(self.removed) + len(self.repeated)

    def add(self, route: RouteFrame) -> None:
        """The route became visible to the receiver."""
        if route in self.removed:
            del self.removed[route]
        else:
            self.added[route] = None

    def remove(self, route: RouteFrame) -> None:
        """The route is no longer visible to the receiver."""
        self.repeated.pop(route, None)
        if route in self.added:
            del self.added[route]
        else:
            self.removed[route] = None

    def add_all(self, routes: Iterable[RouteFrame]) -> None:
        """As `add` for each."""
        if not self.removed:
            self.added.update(dict.fromkeys(routes))
            return
        for route in routes:
            self.add(route)

    def remove_all(self, routes: Iterable[RouteFrame]) -> None:
        """As `remove` for each."""
        if not self.added and not self.repeated:
            self.removed.update(dict.fromkeys(routes))
            return
        for route in routes:
            self.remove(route)

    def repeat(self, route: RouteFrame) -> None:
        """The receiver was told of the route and may have lost it: tell it again."""
        if route not in self.added:
            self.repeated[route] = None

    def forget(self, forgotten: Callable[[RouteFrame], bool]) -> None:
        """Drops what the receiver no longer cares for."""
        for changes in (self.added, self.removed, self.repeated):
            for route in [route for route in changes if forgotten(route)]:
                del changes[route]

    def take(self, limit: int) -> tuple[list[RouteFrame], list[RouteFrame]]:
        """Up to `limit` routes to tell now, first those that came, then those that went; they count as told."""
        added = _first(self.added, limit)
        return added, _first(self.removed, limit - len(added))

    def take_frames(self, size: int) -> list[bytes]:
        """Frames to send now, together not much more than `size` bytes; they count as told."""
        frames: list[bytes] = []
        left = size
        for changes in (self.added, self.repeated):
            while left > 0 and changes:
                taken = _first(changes, max(1, min(_TAKEN_AT_ONCE, left // len(next(iter(changes))))))
                frames += taken
                left -= _total(taken)
        while left > 0 and self.removed:
            gone = [removal(route) for route in _first(self.removed, max(1, min(_TAKEN_AT_ONCE, left // 64)))]
            frames += gone
            left -= _total(gone)
        return frames


def _first(changes: dict[RouteFrame, None], count: int) -> list[RouteFrame]:
    if count >= len(changes):
        taken = list(changes)
        changes.clear()
        return taken
    taken = list(islice(changes, count))
    for route in taken:
        del changes[route]
    return taken


def _total(frames: Iterable[bytes]) -> int:
    return sum(map(len, frames))
