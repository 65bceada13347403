"""The client library: announce routes to several reflectors and follow what others announce.

    client = MetalbondClient(["[2001:db8::1]:4711", "[2001:db8::2]:4711"])
    async with client:
        client.subscribe(Vni(100))
        client.announce(Route(Vni(100), ip_network("10.0.0.1/32"), NextHop(ip_address("2001:db8::a:1"))))
        async for change in client.changes():
            print(change.kind, change.route)

Announcements and subscriptions are remembered and replayed to every server whenever a session begins, so none of the
calls fails or waits because a server is away. What is learned is the union over all servers (see `learned`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Set
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Final, Self

from services.metalbond.learned import Learned
from services.metalbond.link import ConnectionState, Link, Wanted
from services.metalbond.pending import Pending
from services.metalbond.routes import Destination, NextHop, NextHopType, Route, UnderlayAddress, Vni, check_vni
from services.metalbond.session import DEFAULT_INTERVAL
from services.metalbond.wire import decode_route, encode_route

__all__ = [
    "Change",
    "ConnectionState",
    "Destination",
    "MetalbondClient",
    "NextHop",
    "NextHopType",
    "Route",
    "RouteChange",
    "ServerStatus",
    "UnderlayAddress",
    "Vni",
]

DEFAULT_GRACE: Final = 120.0
DEFAULT_SETTLE: Final = 15.0  # peers come back within 9 s (the original) or 12 s (ours)
SWEEP_SECONDS: Final = 0.25
_CHANGES_AT_ONCE: Final = 64


class Change(Enum):
    """What happened to a route."""

    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class RouteChange:
    """A route became visible or went."""

    kind: Change
    route: Route


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A server as the client sees it. `error` says why the last session or attempt ended, empty when none did."""

    state: ConnectionState
    error: str = ""


class MetalbondClient:
    """`servers` are addresses `[v6]:port` or `host:port`; the set is fixed.

    `keepalive` is our interval in seconds. `grace` is how long (s) learned routes outlive the loss of their server
    while it stays away; `settle` is how long (s) after its return those are kept that it has not supplied again.
    `local_address` binds the connections. Raises ValueError for an address that is none. Not thread-safe: use it on the
    event loop on which it runs.
    """

    def __init__(
        self,
        servers: Iterable[str],
        *,
        keepalive: int = DEFAULT_INTERVAL,
        grace: float = DEFAULT_GRACE,
        settle: float = DEFAULT_SETTLE,
        local_address: str = "",
    ) -> None:
        self._learned = Learned(grace=grace, settle=settle)
        self._wanted = Wanted(self._learned, self._wake_feeds)
        self._links = {server: Link(self._wanted, server, keepalive, local_address) for server in servers}
        self._feeds: list[tuple[Pending, asyncio.Event]] = []
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.run(), name="metalbond client")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def run(self) -> None:
        """Keeps sessions with all servers until cancelled. What was announced is not withdrawn at the end: a server
        keeps it for its grace time, so that an agent may restart unnoticed."""
        async with asyncio.TaskGroup() as tasks:
            for server, link in self._links.items():
                tasks.create_task(link.run(), name=f"metalbond server {server}")
            tasks.create_task(self._sweep(), name="metalbond sweep")

    @property
    def announced(self) -> Set[Route]:
        """What the client announces, whether or not a server has heard of it yet."""
        return self._wanted.announced.keys()

    @property
    def subscriptions(self) -> Set[Vni]:
        """VNIs that the client follows."""
        return frozenset(self._wanted.subscribed)

    @property
    def servers(self) -> Mapping[str, ServerStatus]:
        """The state of each session."""
        return {server: ServerStatus(link.state, link.error) for server, link in self._links.items()}

    @property
    def settled(self) -> bool:
        """Whether what is learned can be taken for complete: at least one server is there, the tables of all that are
        have been transferred, and other clients had `settle` seconds to announce again. Whoever finds state that no
        route explains, after a restart of its own, removes it then and not before."""
        now = asyncio.get_running_loop().time()
        return self._learned.settled((link.supplier for link in self._links.values()), now)

    def routes(self, vni: Vni) -> list[Route]:
        """The routes learned for a VNI, without own ones."""
        return self._learned.routes(vni)

    def announce(self, route: Route) -> None:
        """Tells all servers, now or when they are there; a route that is announced already changes nothing."""
        if route in self._wanted.announced:
            return
        frame = self._wanted.announced[route] = encode_route(route)
        self._learned.announce(route)
        for link in self._links.values():
            link.told(link.pending.add, frame)
        self._wake_feeds()

    def withdraw(self, route: Route) -> None:
        """Takes an announcement back; one that isn't there changes nothing."""
        frame = self._wanted.announced.pop(route, None)
        if frame is None:
            return
        self._learned.withdraw(route)
        for link in self._links.values():
            link.told(link.pending.remove, frame)
        self._wake_feeds()

    def subscribe(self, vni: Vni) -> None:
        """Follows a VNI; again changes nothing. Raises ValueError for a VNI beyond 24 bits."""
        self._wanted.subscribed.add(check_vni(vni))
        for link in self._links.values():
            link.sync_subscriptions()

    def unsubscribe(self, vni: Vni) -> None:
        """Stops following a VNI: its learned routes go, own announcements stay."""
        self._wanted.subscribed.discard(vni)
        for link in self._links.values():
            link.sync_subscriptions()
        self._learned.forget_vni(vni)
        self._wake_feeds()

    async def changes(self) -> AsyncIterator[RouteChange]:
        """First all learned routes as added, then every change, coalesced: a route that comes and goes before the
        consumer gets to it is not reported, and one that replaces another is reported before the other goes."""
        pending, awake = Pending(), asyncio.Event()
        self._learned.listen(pending)
        feed = (pending, awake)
        self._feeds.append(feed)
        try:
            while True:
                awake.clear()
                added, removed = pending.take(_CHANGES_AT_ONCE)
                for frame in added:
                    yield RouteChange(Change.ADDED, decode_route(frame))
                for frame in removed:
                    yield RouteChange(Change.REMOVED, decode_route(frame))
                if not pending:
                    await awake.wait()
        finally:
            self._feeds.remove(feed)
            self._learned.unlisten(pending)

    async def wait_established(self, count: int = 1) -> None:
        """Returns as soon as `count` servers are established; put a timeout around it."""
        while sum(link.state is ConnectionState.ESTABLISHED for link in self._links.values()) < count:
            self._wanted.changed.clear()
            await self._wanted.changed.wait()

    def _wake_feeds(self) -> None:
        for pending, awake in self._feeds:
            if pending:
                awake.set()

    async def _sweep(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            more = self._learned.sweep(clock())
            self._wake_feeds()
            await asyncio.sleep(0 if more else SWEEP_SECONDS)
