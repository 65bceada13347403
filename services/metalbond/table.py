"""Routes and who supplies them. Pure and flat: a million routes are a million dictionary entries, nothing nested."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from services.metalbond.routes import Vni
from services.metalbond.wire import RouteFrame


class Source:
    """Whoever supplies routes: for a server a peer's session, for a client its session with one server.

    `route_count` is the sum over `routes`. `heir` is a later session that may speak for this one after its loss. A
    lost source is stale: its routes stay until somebody else supplies them or its grace time ends. A `reflector`
    passes on what others announce.
    """

    __slots__ = ("alone", "heir", "lost_at", "name", "reflector", "route_count", "routes")

    def __init__(self, name: str, *, reflector: bool = False) -> None:
        self.name = name
        self.reflector = reflector
        self.routes: dict[Vni, set[RouteFrame]] = {}
        self.route_count = 0
        # Most routes have one source; sharing this tuple among them keeps an entry small.
        self.alone: tuple[Source, ...] = (self,)
        self.lost_at: float | None = None
        self.heir: Source | None = None

    def is_heard_by(self, other: Source) -> bool:
        """Whether its routes concern the other: not itself, nor its heir, nor reflectors if it is one."""
        return self is not other and self.heir is not other and not (self.reflector and other.reflector)

    @property
    def stale(self) -> bool:
        """Its session is gone."""
        return self.lost_at is not None


Sources = tuple[Source, ...]
NOBODY: Final[Sources] = ()


class RouteTable:
    """VNI -> route -> sources. A route has live sources, or else exactly one stale source, or does not exist.

    Mutators return the sources before and after, from which callers derive what anybody must be told.
    """

    def __init__(self) -> None:
        self._vnis: dict[Vni, dict[RouteFrame, Sources]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._vnis.values()))

    @property
    def vnis(self) -> Iterable[Vni]:
        """VNIs that have routes."""
        return self._vnis.keys()

    def routes(self, vni: Vni) -> dict[RouteFrame, Sources]:
        """The VNI's routes; to be read, not kept."""
        return self._vnis.get(vni, {})

    def add(self, vni: Vni, route: RouteFrame, source: Source) -> tuple[Sources, Sources]:
        """A live source supplies the route; saying so again changes nothing. It relieves a stale source."""
        routes = self._vnis.setdefault(vni, {})
        before = routes.get(route, NOBODY)
        if source in before:
            return before, before
        if before and before[0].stale:
            self._unlink(vni, route, before[0])
            after = source.alone
        else:
            after = (*before, source) if before else source.alone
        routes[route] = after
        source.routes.setdefault(vni, set()).add(route)
        source.route_count += 1
        return before, after

    def add_new(self, vni: Vni, routes: list[RouteFrame], source: Source) -> list[RouteFrame] | None:
        """As `add` for many routes of which the table has none: the source is their only one. Returns them without
        repetitions, or None, and changes nothing, when the table has any of them already."""
        known = self._vnis.get(vni)
        if known is None:
            known = self._vnis[vni] = {}
        elif not known.keys().isdisjoint(routes):
            return None
        new = dict.fromkeys(routes, source.alone)
        known.update(new)
        source.routes.setdefault(vni, set()).update(new)
        source.route_count += len(new)
        return list(new)

    def remove(self, vni: Vni, route: RouteFrame, source: Source) -> tuple[Sources, Sources]:
        """The source, or the lost one that it is heir of, no longer supplies the route; unknown is no change."""
        before = self.routes(vni).get(route, NOBODY)
        gone = next((known for known in before if known is source or known.heir is source), None)
        if gone is None:
            return before, before
        return before, self._drop(vni, route, before, gone)

    def remove_only(self, vni: Vni, routes: list[RouteFrame], source: Source) -> list[RouteFrame] | None:
        """As `remove` for many routes of which the source is the only one. Returns them without repetitions, or None,
        and changes nothing, when that isn't so for any of them."""
        known, gone = self._vnis.get(vni), list(dict.fromkeys(routes))
        if known is None or list(map(known.get, gone)).count(source.alone) < len(gone):
            return None
        deque(map(known.__delitem__, gone), maxlen=0)
        owned = source.routes[vni]
        owned.difference_update(gone)
        source.route_count -= len(gone)
        if not known:
            del self._vnis[vni]
        if not owned:
            del source.routes[vni]
        return gone

    def lose(self, source: Source, now: float) -> Iterator[tuple[Vni, RouteFrame, Sources, Sources]]:
        """The source's session is gone: marks it stale, at once, and takes it off the routes that others supply.

        Yields vni, route and sources before and after of those routes; the iterator must be consumed.
        """
        source.lost_at = now
        return self._shared(source)

    def _shared(self, source: Source) -> Iterator[tuple[Vni, RouteFrame, Sources, Sources]]:
        for vni in list(source.routes):
            known = self._vnis[vni]
            for route in [route for route in source.routes[vni] if len(known[route]) > 1]:
                before = known[route]
                yield vni, route, before, self._drop(vni, route, before, source)

    def forget(self, source: Source, limit: int) -> Iterator[tuple[Vni, RouteFrame, Sources, Sources]]:
        """Takes the source off up to `limit` of its routes, each yielded as by `lose`."""
        for vni in list(source.routes):
            for route in list(source.routes[vni])[:limit]:
                limit -= 1
                before = self._vnis[vni][route]
                yield vni, route, before, self._drop(vni, route, before, source)
            if limit <= 0:
                return

    def drop_vni(self, vni: Vni) -> list[RouteFrame]:
        """Takes all sources off all routes of the VNI; returns these."""
        routes = self._vnis.pop(vni, {})
        for route, sources in routes.items():
            for source in sources:
                self._unlink(vni, route, source)
        return list(routes)

    def _drop(self, vni: Vni, route: RouteFrame, before: Sources, gone: Source) -> Sources:
        left = tuple(source for source in before if source is not gone)
        if not left:
            del self._vnis[vni][route]
            if not self._vnis[vni]:
                del self._vnis[vni]
        else:
            self._vnis[vni][route] = left[0].alone if len(left) == 1 else left
        self._unlink(vni, route, gone)
        return left

    @staticmethod
    def _unlink(vni: Vni, route: RouteFrame, source: Source) -> None:
        routes = source.routes[vni]
        routes.remove(route)
        source.route_count -= 1
        if not routes:
            del source.routes[vni]
