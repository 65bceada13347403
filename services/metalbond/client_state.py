"""What a client wants of its servers and what each of them knows of it. Pure: sessions begin and end by calls, time is
given, and what is to be sent is asked for.

`ClientState` holds what outlives sessions: own announcements, subscriptions and what was learned. An `Upstream` is one
server as seen from here. A session's transport asks it for `requests` and takes routes out of its `pending`; the
difference between a session of frames and one of batches is said once, in `begin`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from services.metalbond.learned import Learned, Supplier
from services.metalbond.pending import Pending
from services.metalbond.routes import Route, Vni, check_vni
from services.metalbond.wire import ProtocolError, RouteFrame, Subscribe, Unsubscribe, Update, encode_route

# The original handles frames of different types in any order, and what it sent before it read an UNSUBSCRIBE is still
# on its way: neither a new subscription nor an announcement in the same VNI may follow at once.
PAUSE_SECONDS: Final = 1.0
REQUESTS_AT_ONCE: Final = 64
MAX_REFUSALS: Final = 1000
MAX_ROUTES: Final = 4_000_000  # of one server; about 1.4 GB

Request = Subscribe | Unsubscribe


class Upstream:
    """One server: what it has been asked, what it has yet to hear, what it supplies.

    `pending` is what the server has yet to hear of our announcements, replaced by `open`. `refusals` say why it does
    not let us announce (True) in a VNI, or follow it (False).
    """

    def __init__(self, name: str, state: ClientState) -> None:
        self.name = name
        self.pending = Pending()
        self.established = False
        self._state = state
        self._supplier = state.learned.supplier(name)
        self._subscribed: set[Vni] = set()
        self._leaving: set[Vni] = set()  # to be unsubscribed from
        self._left: dict[Vni, float] = {}  # when we unsubscribed in this session
        self._forgets = False
        self.refusals: dict[tuple[Vni, bool], str] = {}

    @property
    def supplier(self) -> Supplier:
        """The server as far as its routes are concerned."""
        return self._supplier

    @property
    def subscribed(self) -> frozenset[Vni]:
        """What the server knows that we follow."""
        return frozenset(self._subscribed)

    def open(self) -> Pending:
        """A transport is about to connect: what it will have to tell."""
        self.pending = Pending()
        return self.pending

    def begin(self, now: float, *, marks: bool, forgets: bool) -> None:
        """A session is established with a server that remembers nothing of us.

        `marks`: it says when a table is complete. `forgets`: it drops our announcements in a VNI when we unsubscribe.
        """
        self.established, self._forgets = True, forgets
        self._subscribed, self._leaving, self._left, self.refusals = set(), set(), {}, {}
        self._state.learned.established(self._supplier, now, marks=marks)
        for frame in self._state.announced.values():
            self.pending.add(frame)

    def end(self, now: float) -> None:
        """The session is over, if there was one; what it supplied is kept as stale."""
        if self.established:
            self.established = False
            self._state.learned.lost(self._supplier, now)

    def leave(self, vni: Vni) -> None:
        """What the server supplies in the VNI was just forgotten: even if we follow it again at once, the server has to
        hear of both."""
        if vni in self._subscribed:
            self._subscribed.discard(vni)
            self._leaving.add(vni)
            self._state.learned.left(self._supplier, vni)

    def requests(self, now: float, limit: int = REQUESTS_AT_ONCE) -> list[Request]:
        """What to ask of the server now, in this order, up to `limit`; it counts as asked. Announcements that it may
        have forgotten meanwhile become pending."""
        if not self.established:
            return []
        wanted = self._state.subscribed
        asked: list[Request] = []
        for vni in sorted(self._leaving)[:limit]:
            self._leaving.discard(vni)
            self._left[vni] = now
            asked.append(Unsubscribe(vni))
        for vni in [vni for vni, left in self._left.items() if now >= left + PAUSE_SECONDS]:
            del self._left[vni]
            if self._forgets:
                self._announce_again(vni)
        for vni in sorted(wanted - self._subscribed - self._leaving - self._left.keys())[: limit - len(asked)]:
            self._subscribed.add(vni)
            self._state.learned.asked(self._supplier, vni, now)
            asked.append(Subscribe(vni))
        return asked

    @property
    def next_request(self) -> float:
        """When to call `requests` again though nothing is changed; infinity if never."""
        return min(self._left.values()) + PAUSE_SECONDS if self.established and self._left else math.inf

    def receive(self, update: Update, now: float) -> None:
        """The server says that a route came or went. Raises ProtocolError for more routes than anybody has."""
        if update.vni not in self._subscribed:
            return  # sent before it read that we no longer care
        if self._supplier.source.route_count >= self._state.max_routes and not update.removed:
            raise ProtocolError("too many routes", f"more than {self._state.max_routes}")
        self._state.learned.update(self._supplier, update, now)

    def table_end(self, vni: Vni) -> None:
        """The server has told all of a VNI's table."""
        self._state.learned.table_end(self._supplier, vni)

    def refused(self, vni: Vni, announcing: bool, reason: str) -> None:
        """The server does not let us announce in the VNI, or does not let us follow it."""
        if len(self.refusals) < MAX_REFUSALS:
            self.refusals[vni, announcing] = reason
        if not announcing:
            self._state.learned.left(self._supplier, vni)

    def _announce_again(self, vni: Vni) -> None:
        for route, frame in self._state.announced.items():
            if route.vni == vni:
                self.pending.repeat(frame)


class ClientState:
    """`servers` are names. `grace` and `settle` (seconds) as in `Learned`; `max_routes` bounds what one server may
    make us hold."""

    def __init__(self, servers: Iterable[str], *, grace: float, settle: float, max_routes: int = MAX_ROUTES) -> None:
        self.learned = Learned(grace=grace, settle=settle)
        self.max_routes = max_routes
        self._announced: dict[Route, RouteFrame] = {}
        self._subscribed: set[Vni] = set()
        self.upstreams = {name: Upstream(name, self) for name in servers}

    @property
    def announced(self) -> Mapping[Route, RouteFrame]:
        """Own announcements with their frames."""
        return MappingProxyType(self._announced)

    @property
    def subscribed(self) -> frozenset[Vni]:
        """VNIs that the client follows."""
        return frozenset(self._subscribed)

    def announce(self, route: Route) -> bool:
        """True when the route was not announced before."""
        if route in self._announced:
            return False
        frame = self._announced[route] = encode_route(route)
        self.learned.announce(route)
        for upstream in self._established():
            upstream.pending.add(frame)
        return True

    def withdraw(self, route: Route) -> bool:
        """True when the route was announced."""
        frame = self._announced.pop(route, None)
        if frame is None:
            return False
        self.learned.withdraw(route)
        for upstream in self._established():
            upstream.pending.remove(frame)
        return True

    def subscribe(self, vni: int) -> None:
        """Raises ValueError for a VNI beyond 24 bits."""
        self._subscribed.add(check_vni(vni))

    def unsubscribe(self, vni: Vni) -> None:
        """The VNI's learned routes go at once."""
        self._subscribed.discard(vni)
        self.learned.forget_vni(vni)
        for upstream in self._established():
            upstream.leave(vni)

    def settled(self, now: float) -> bool:
        """Whether what is learned can be taken for complete."""
        return self.learned.settled((upstream.supplier for upstream in self.upstreams.values()), now)

    def _established(self) -> Iterable[Upstream]:
        return (upstream for upstream in self.upstreams.values() if upstream.established)
