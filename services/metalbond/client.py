"""The client library: announce routes to several reflectors and follow what others announce.

    client = MetalbondClient(["[2001:db8::1]:4711", "[2001:db8::2]:4711"])
    async with client:
        client.subscribe(Vni(100))
        client.announce(Route(Vni(100), ip_network("10.0.0.1/32"), NextHop(ip_address("2001:db8::a:1"))))
        async for change in client.changes():
            print(change.kind, change.route)

Announcements and subscriptions are remembered and replayed to every server whenever a session begins, so none of the
calls fails or waits because a server is away. What is learned is the union over all servers (see `learned`).

A server is reached through its gRPC door where a port for it is known, else, or while nobody answers there, by the
original's TCP protocol. A server that refuses our certificate, or shows a wrong one, is not asked by TCP instead.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.x509.oid import NameOID

from services.common.addresses import join_address, split_address
from services.common.tls import TlsFiles
from services.metalbond.client_grpc import GrpcDoor
from services.metalbond.client_state import MAX_ROUTES, ClientState, Upstream
from services.metalbond.client_tcp import TcpDoor
from services.metalbond.connection import Traffic
from services.metalbond.link import ConnectionState, Door, Ends, Link
from services.metalbond.pending import Pending
from services.metalbond.routes import Destination, NextHop, NextHopType, Route, UnderlayAddress, Vni
from services.metalbond.session import DEFAULT_INTERVAL
from services.metalbond.wire import DEFAULT_PORT, RouteFrame, decode_route

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
DEFAULT_HOLD: Final = 30
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
    """A server as the client sees it. `error` says why the last session or attempt ended, empty when none did. `door`
    is `grpc` or `tcp` while a session is established, else empty. `traffic` and `ends` count since the client began."""

    state: ConnectionState
    error: str = ""
    door: str = ""
    routes: int = 0
    pending: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    ends: Ends = field(default_factory=Ends)


class MetalbondClient:
    """`servers` are addresses `[v6]:port` or `host:port` of the TCP door, followed by `/port` where the same host has a
    gRPC door, or `unix:/path` of a gRPC door alone; the set is fixed.

    `keepalive` is our interval in seconds. `grace` is how long (s) learned routes outlive the loss of their server
    while it stays away; `settle` is how long (s) after its return those are kept that it has not supplied again.
    `hold` is how long (s) servers shall keep our announcements when we are away; the TCP protocol can't ask for it.
    `node` is our name at gRPC doors, which recognise us by it when we return; when empty, the common name of our
    certificate or else the host's name. `tls` is for the gRPC doors, plaintext when None; `grpc_port` is the one of
    servers that name none, 0 = no gRPC. `local_address` binds TCP connections. A
    `reflector` is told only what peers announce, not what other reflectors pass on. A server that supplies more than
    `max_routes` loses its session.

    Raises ValueError for an address that is none, OSError for an unreadable certificate. Not thread-safe: use it on
    the event loop on which it runs.
    """

    def __init__(
        self,
        servers: Iterable[str],
        *,
        keepalive: int = DEFAULT_INTERVAL,
        grace: float = DEFAULT_GRACE,
        settle: float = DEFAULT_SETTLE,
        hold: int = DEFAULT_HOLD,
        node: str = "",
        tls: TlsFiles | None = None,
        grpc_port: int = 0,
        local_address: str = "",
        reflector: bool = False,
        max_routes: int = MAX_ROUTES,
    ) -> None:
        self._reflector = reflector
        self._keepalive, self._hold, self._local = keepalive, hold, local_address
        self._node, self._tls, self._grpc_port = node or own_name(tls), tls, grpc_port
        self._state = ClientState(servers, grace=grace, settle=settle, max_routes=max_routes)
        self._changed = asyncio.Event()
        self._links = {server: self._link(server, upstream) for server, upstream in self._state.upstreams.items()}
        self._feeds: list[tuple[Pending, asyncio.Event]] = []
        self._running: asyncio.Task[None] | None = None

    def _link(self, server: str, upstream: Upstream) -> Link:
        link = Link(upstream, self._changed.set)
        doors: list[Door] = []
        tcp, grpc = parse_server(server, self._grpc_port)
        if grpc:
            doors.append(
                GrpcDoor(
                    grpc,
                    self._tls,
                    keepalive=self._keepalive,
                    hold=self._hold,
                    node=self._node,
                    began=link.established,
                    learned=self._wake_feeds,
                    reflector=self._reflector,
                )
            )
        if tcp is not None:
            doors.append(
                TcpDoor(
                    tcp,
                    keepalive=self._keepalive,
                    local=self._local,
                    began=link.established,
                    learned=self._wake_feeds,
                    reflector=self._reflector,
                )
            )
        link.doors = doors
        return link

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
        return self._state.announced.keys()

    @property
    def subscriptions(self) -> Set[Vni]:
        """VNIs that the client follows."""
        return self._state.subscribed

    @property
    def servers(self) -> Mapping[str, ServerStatus]:
        """The state of each session."""
        return {server: self._status(link, self._state.upstreams[server]) for server, link in self._links.items()}

    @property
    def settled(self) -> bool:
        """Whether what is learned can be taken for complete: at least one server is there, the tables of all that are
        have been transferred, and other clients had `settle` seconds to announce again. Whoever finds state that no
        route explains, after a restart of its own, removes it then and not before."""
        return self._state.settled(asyncio.get_running_loop().time())

    def routes(self, vni: Vni) -> list[Route]:
        """The routes learned for a VNI, without own ones."""
        return self._state.learned.routes(vni)

    def iterate(self, vni: Vni) -> Iterator[Route]:
        """As `routes`, decoded one by one: of a large VNI some at a time."""
        return self._state.learned.iterate(vni)

    def count(self, vni: Vni) -> int:
        """Learned routes of a VNI, those included that own announcements hide."""
        return self._state.learned.count(vni)

    @property
    def vnis(self) -> Set[Vni]:
        """VNIs of which there are learned routes."""
        return frozenset(self._state.learned.vnis)

    def announce(self, route: Route) -> None:
        """Tells all servers, now or when they are there; a route that is announced already changes nothing."""
        if self._state.announce(route):
            self._wake()

    def withdraw(self, route: Route) -> None:
        """Takes an announcement back; one that isn't there changes nothing."""
        if self._state.withdraw(route):
            self._wake()

    def subscribe(self, vni: Vni) -> None:
        """Follows a VNI; again changes nothing. Raises ValueError for a VNI beyond 24 bits."""
        self._state.subscribe(vni)
        self._wake()

    def unsubscribe(self, vni: Vni) -> None:
        """Stops following a VNI: its learned routes go, own announcements stay."""
        self._state.unsubscribe(vni)
        self._wake()

    async def changes(self) -> AsyncIterator[RouteChange]:
        """First all learned routes as added, then every change, coalesced: a route that comes and goes before the
        consumer gets to it is not reported, and one that replaces another is reported before the other goes."""
        async for added, removed in self.batches(_CHANGES_AT_ONCE):
            for frame in added:
                yield RouteChange(Change.ADDED, decode_route(frame))
            for frame in removed:
                yield RouteChange(Change.REMOVED, decode_route(frame))

    async def batches(self, limit: int) -> AsyncIterator[tuple[list[RouteFrame], list[RouteFrame]]]:
        """As `changes`, for who passes them on: up to `limit` routes at once, as the frames that add them, first those
        that came, then those that went."""
        pending, awake = Pending(), asyncio.Event()
        self._state.learned.listen(pending)
        feed = (pending, awake)
        self._feeds.append(feed)
        try:
            while True:
                awake.clear()
                if pending:
                    yield pending.take(limit)
                else:
                    await awake.wait()
        finally:
            self._feeds.remove(feed)
            self._state.learned.unlisten(pending)

    async def wait_established(self, count: int = 1) -> None:
        """Returns as soon as `count` servers are established; put a timeout around it."""
        while sum(link.state is ConnectionState.ESTABLISHED for link in self._links.values()) < count:
            self._changed.clear()
            await self._changed.wait()

    def _wake(self) -> None:
        for link in self._links.values():
            link.wake()
        self._wake_feeds()

    def _wake_feeds(self) -> None:
        for pending, awake in self._feeds:
            if pending:
                awake.set()

    async def _sweep(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            more = self._state.learned.sweep(clock())
            self._wake_feeds()
            await asyncio.sleep(0 if more else SWEEP_SECONDS)

    @staticmethod
    def _status(link: Link, upstream: Upstream) -> ServerStatus:
        return ServerStatus(
            state=link.state,
            error=link.error,
            door=link.door,
            routes=upstream.supplier.source.route_count,
            pending=len(upstream.pending) if upstream.established else 0,
            traffic=link.traffic,
            ends=link.ends,
        )


def own_name(tls: TlsFiles | None) -> str:
    """The common name of our certificate, the host's name without one. Raises OSError and ValueError."""
    if tls is not None:
        certificate = x509.load_pem_x509_certificate(tls.cert.read_bytes())
        for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
            return str(attribute.value)
    return socket.gethostname()


def parse_server(server: str, grpc_port: int = 0) -> tuple[tuple[str, int] | None, str]:
    """Host and port of the TCP door, None without one, and the address of the gRPC door, empty without one.

    Raises ValueError.
    """
    if server.startswith("unix:"):
        return None, server
    address, slash, port = server.partition("/")
    host, tcp_port = split_address(address, DEFAULT_PORT)
    if not slash:
        return (host, tcp_port), join_address(host, grpc_port) if grpc_port else ""
    return (host, tcp_port), join_address(*split_address(f"{join_address(host, 0).removesuffix('0')}{port}"))
