"""What a client knows from its servers: the union of their tables, without what the client announces itself. Pure.

- A route is visible while any server supplies it; losing one server changes nothing that another still supplies.
- Routes of a lost server stay for the grace time. When it is back, they stay until its table has been transferred (it
  says so, or is quiet) and the other clients had time to return to it, then those that it no longer supplies go.
- A route that the client announces itself is never visible, nor is any STANDARD next hop for a destination for which it
  announces a STANDARD one: two routers that both offer the default route would send packets in circles. Such routes are
  only hidden: they appear once the own announcement is withdrawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from services.metalbond.pending import Pending
from services.metalbond.routes import NextHopType, Route, Vni
from services.metalbond.table import NOBODY, RouteTable, Source, Sources
from services.metalbond.wire import RouteFrame, Update, decode_route, destination_key, encode_route, masked

QUIET_SECONDS: Final = 2.0  # a transfer without updates for so long is complete, where no mark says so
_SWEPT_AT_ONCE: Final = 1000


@dataclass
class Supplier:
    """A server as far as its routes are concerned. Times are those of one monotonic clock, None while there is none.

    A server that `marks` says when a VNI's table is complete; `awaited` are those of which it hasn't yet.
    """

    name: str
    source: Source
    established_at: float | None = None
    updated_at: float = 0.0
    marks: bool = False
    awaited: set[Vni] = field(default_factory=set)


class Destinations:
    """Routes by destination. Nearly all destinations have one route: it stands there without a container."""

    def __init__(self) -> None:
        self._routes: dict[bytes, RouteFrame | set[RouteFrame]] = {}

    def add(self, frame: RouteFrame) -> None:
        """Of a route that isn't there."""
        key = destination_key(frame)
        known = self._routes.setdefault(key, frame)
        if isinstance(known, set):
            known.add(frame)
        elif known is not frame:
            self._routes[key] = {known, frame}

    def remove(self, frame: RouteFrame) -> None:
        """Of a route that is there."""
        key = destination_key(frame)
        known = self._routes[key]
        if not isinstance(known, set):
            del self._routes[key]
            return
        known.discard(frame)
        if len(known) == 1:
            self._routes[key] = known.pop()

    def find(self, frame: RouteFrame) -> list[RouteFrame]:
        """All routes to the destination of one that need not be there."""
        known = self._routes.get(destination_key(frame), ())
        return [*known] if isinstance(known, set | tuple) else [known]


class Learned:
    """`grace` and `settle` in seconds: how long routes outlive all sessions with their server, and how long after its
    return the other clients have to announce again."""

    def __init__(self, *, grace: float, settle: float) -> None:
        self._table = RouteTable()
        self._destinations = Destinations()
        self._grace = grace
        self._settle = settle
        self._own: set[RouteFrame] = set()
        self._own_destinations: Counter[bytes] = Counter()
        self._listeners: list[Pending] = []
        self._stale: list[tuple[Supplier, Source]] = []

    def routes(self, vni: Vni) -> list[Route]:
        """The visible routes of a VNI."""
        return [decode_route(frame) for frame in self._table.routes(vni) if self._visible(frame)]

    def iterate(self, vni: Vni) -> Iterator[Route]:
        """The visible routes of a VNI as they are now, decoded one by one."""
        frames = [frame for frame in self._table.routes(vni) if self._visible(frame)]
        return (decode_route(frame) for frame in frames)

    def count(self, vni: Vni) -> int:
        """Routes of a VNI, hidden ones included."""
        return len(self._table.routes(vni))

    @property
    def vnis(self) -> Iterable[Vni]:
        """VNIs of which something was learned, visible or not."""
        return self._table.vnis

    def listen(self, listener: Pending) -> None:
        """From now on the listener hears of every change, and first of all that is visible."""
        self._listeners.append(listener)
        for vni in self._table.vnis:
            for frame in self._table.routes(vni):
                if self._visible(frame):
                    listener.add(frame)

    def unlisten(self, listener: Pending) -> None:
        """The listener wants to hear no more."""
        self._listeners.remove(listener)

    def announce(self, route: Route) -> None:
        """The client announces the route itself."""
        self._change_own(route, announced=True)

    def withdraw(self, route: Route) -> None:
        """The client no longer announces the route."""
        self._change_own(route, announced=False)

    def supplier(self, name: str) -> Supplier:
        """A server that supplies nothing yet."""
        return Supplier(name, Source(name))

    def established(self, supplier: Supplier, now: float, *, marks: bool = False) -> None:
        """A session with the server begins to transfer."""
        supplier.source = Source(supplier.name)
        supplier.established_at = supplier.updated_at = now
        supplier.marks, supplier.awaited = marks, set()

    def asked(self, supplier: Supplier, vni: Vni, now: float) -> None:
        """The server is asked for a VNI's table: the transfer is not over before it began."""
        supplier.updated_at = now
        supplier.awaited.add(vni)

    def left(self, supplier: Supplier, vni: Vni) -> None:
        """The server's table of the VNI is no longer wanted."""
        supplier.awaited.discard(vni)

    def table_end(self, supplier: Supplier, vni: Vni) -> None:
        """The server has told all of the VNI's table."""
        supplier.awaited.discard(vni)

    def lost(self, supplier: Supplier, now: float) -> None:
        """The session is over; its routes become stale."""
        source, supplier.source = supplier.source, Source(supplier.name)
        supplier.established_at = None
        for _ in self._table.lose(source, now):
            pass  # others supply these: nobody sees a difference
        if source.routes:
            self._stale.append((supplier, source))

    def update(self, supplier: Supplier, update: Update, now: float) -> None:
        """The server says that a route came or went."""
        supplier.updated_at = now
        frame = masked(update.route)
        change = self._table.remove if update.removed else self._table.add
        self._tell(frame, *change(update.vni, frame, supplier.source))

    def forget_vni(self, vni: Vni) -> None:
        """The client no longer subscribes to the VNI."""
        for frame in self._table.drop_vni(vni):
            self._tell(frame, before=_SOMEBODY, after=NOBODY)

    def sweep(self, now: float) -> bool:
        """Drops some stale routes whose time is over; True when there is more to do at once."""
        for entry in self._stale:
            supplier, source = entry
            if not self._over(supplier, source, now):
                continue
            for _, frame, before, after in self._table.forget(source, _SWEPT_AT_ONCE):
                self._tell(frame, before, after)
            if not source.routes:
                self._stale.remove(entry)
            return True
        return False

    def settled(self, suppliers: Iterable[Supplier], now: float) -> bool:
        """Whether what is learned can be taken for complete."""
        there = [supplier for supplier in suppliers if supplier.established_at is not None]
        return bool(there) and all(self._transferred(supplier, now) for supplier in there)

    def _over(self, supplier: Supplier, source: Source, now: float) -> bool:
        if supplier.established_at is None:
            return source.lost_at is not None and now >= source.lost_at + self._grace
        return self._transferred(supplier, now)

    def _transferred(self, supplier: Supplier, now: float) -> bool:
        if supplier.established_at is None or now < supplier.established_at + self._settle:
            return False
        return not supplier.awaited if supplier.marks else now >= supplier.updated_at + QUIET_SECONDS

    def _visible(self, frame: RouteFrame) -> bool:
        if frame in self._own:
            return False
        if destination_key(frame) not in self._own_destinations:
            return True
        return decode_route(frame).next_hop.type != NextHopType.STANDARD

    def _change_own(self, route: Route, *, announced: bool) -> None:
        frame = encode_route(route)
        if (frame in self._own) == announced:
            return
        key = destination_key(frame)
        known = self._destinations.find(frame)
        saw = [self._visible(known_frame) for known_frame in known]
        (self._own.add if announced else self._own.discard)(frame)
        if route.next_hop.type == NextHopType.STANDARD:
            self._own_destinations[key] += 1 if announced else -1
            if not self._own_destinations[key]:
                del self._own_destinations[key]
        for known_frame, seen in zip(known, saw, strict=True):
            if self._visible(known_frame) != seen:
                for listener in self._listeners:
                    (listener.remove if seen else listener.add)(known_frame)

    def _tell(self, frame: RouteFrame, before: Sources, after: Sources) -> None:
        if bool(before) == bool(after):
            return
        (self._destinations.add if after else self._destinations.remove)(frame)
        if not self._visible(frame):
            return
        for listener in self._listeners:
            (listener.add if after else listener.remove)(frame)


_SOMEBODY: Final[Sources] = (Source("somebody"),)
