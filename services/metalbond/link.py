"""One session after the other with one server: dials, replays what the client wants, dials again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from services.common.addresses import split_address
from services.common.logs import get_logger
from services.common.tasks import Backoff
from services.metalbond.connection import Connection, until_first
from services.metalbond.learned import Learned
from services.metalbond.pacing import EchoPacer
from services.metalbond.pending import Pending
from services.metalbond.routes import Route, Vni
from services.metalbond.session import DiallingSession, SessionExpired, State
from services.metalbond.wire import (
    DEFAULT_PORT,
    Frame,
    Framer,
    Keepalive,
    ProtocolError,
    RouteFrame,
    Subscribe,
    Unsubscribe,
    Update,
    decode,
)

log = get_logger(__name__)

CONNECT_SECONDS: Final = 5.0
# The original handles frames of different types in any order: what must not overtake one another needs a pause.
REORDER_SECONDS: Final = 1.0


class ConnectionState(Enum):
    """Where the session with a server stands."""

    CONNECTING = "connecting"
    ESTABLISHED = "established"
    WAITING = "waiting to reconnect"


@dataclass
class Wanted:
    """What a client wants of all its servers, and what it has from them. `changed` is set by every session that begins
    or ends, `learn` is called whenever `learned` may have changed."""

    learned: Learned
    learn: Callable[[], None]
    announced: dict[Route, RouteFrame] = field(default_factory=dict)
    subscribed: set[Vni] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Link:
    """The client's side of one server: dials, keeps a session, dials again."""

    def __init__(self, wanted: Wanted, server: str, keepalive: int, local_address: str) -> None:
        self.state = ConnectionState.CONNECTING
        self.error = ""
        self.pending = Pending()
        self._wanted = wanted
        self._server = server
        self._address = split_address(server, DEFAULT_PORT)
        self._keepalive = keepalive
        self._local = (local_address, 0) if local_address else None
        self.supplier = wanted.learned.supplier(server)
        self._connection: Connection | None = None
        self._begun = asyncio.Event()
        self._subscribed: set[Vni] = set()
        self._left: dict[Vni, float] = {}  # when we unsubscribed in this session
        self._backoff = Backoff(first=0.5, limit=10.0)

    @property
    def _established(self) -> bool:
        return self.state is ConnectionState.ESTABLISHED

    async def run(self) -> None:
        """Sessions for ever, with back-off in between."""
        while True:
            self._enter(ConnectionState.CONNECTING, self.error)
            error = "closed by the server"
            try:
                await self._session()
            except (OSError, ProtocolError, SessionExpired) as failure:
                error = str(failure) or type(failure).__name__
            except Exception as failure:  # our mistake with one server must not end the sessions with the others
                error = f"{type(failure).__name__}: {failure}"
                log.error("session failed", server=self._server, error=error, exc_info=failure)
            if error != self.error:
                log.warning("session ended", server=self._server, reason=error)
            self._enter(ConnectionState.WAITING, error)
            await asyncio.sleep(self._backoff.next())

    def told(self, change: Callable[[RouteFrame], None], frame: RouteFrame) -> None:
        """Makes a change of own announcements pending; without a session the next one begins with all of them."""
        if self._established and self._connection is not None:
            change(frame)
            self._connection.wake()

    def sync_subscriptions(self) -> None:
        """Brings the server's idea of our subscriptions up to date."""
        if not self._established or self._connection is None:
            return
        now = self._now()
        frames: list[Frame] = []
        for vni in self._subscribed - self._wanted.subscribed:
            self._subscribed.discard(vni)
            self._left[vni] = now
            frames.append(Unsubscribe(vni))
            # The original withdraws a peer's own announcements with its subscription.
            self._later(self._reannounce, vni)
        for vni in self._wanted.subscribed - self._subscribed:
            if now - self._left.get(vni, now - REORDER_SECONDS) < REORDER_SECONDS:
                self._later(self.sync_subscriptions)
                continue
            self._subscribed.add(vni)
            self.supplier.updated_at = now  # the transfer is not over before it began
            frames.append(Subscribe(vni))
        self._connection.control(frames)

    async def _session(self) -> None:
        with await self._dial() as sock:
            session = DiallingSession(self._keepalive, now=self._now())
            self.pending = Pending()
            self._connection = connection = Connection(sock, self.pending, EchoPacer())
            self._begun = asyncio.Event()
            connection.control(session.opened())
            try:
                await until_first(
                    self._read(connection, session),
                    connection.write_forever(lambda: self._established),
                    self._tick(connection, session),
                )
            finally:
                self._connection = None
                if self._established:
                    self._wanted.learned.lost(self.supplier, self._now())
                    self._enter(ConnectionState.WAITING, "")

    async def _dial(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        host, port = self._address
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, address = found[0]
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                if self._local is not None:
                    sock.bind(self._local)
                await loop.sock_connect(sock, address)
            except BaseException:
                sock.close()
                raise
        return sock

    async def _read(self, connection: Connection, session: DiallingSession) -> None:
        framer = Framer()
        while data := await connection.read():
            try:
                for kind, payload in framer.feed(data):
                    self._receive(connection, session, decode(kind, payload))
            finally:
                self._wanted.learn()

    def _receive(self, connection: Connection, session: DiallingSession, frame: Frame) -> None:
        before = session.state
        connection.control(session.receive(frame, self._now()))
        if isinstance(frame, Update):
            connection.traffic.updates_in += 1
            if frame.vni in self._subscribed:
                self._wanted.learned.update(self.supplier, frame, self._now())
        elif isinstance(frame, Keepalive):
            connection.answered()
            if before is not State.ESTABLISHED:
                self._begin(connection)

    def _begin(self, connection: Connection) -> None:
        self._wanted.learned.established(self.supplier, self._now())
        self._enter(ConnectionState.ESTABLISHED, "")
        self._begun.set()
        self._backoff.reset()
        log.info("session established", server=self._server)
        self._subscribed, self._left = set(), {}
        for frame in self._wanted.announced.values():
            self.pending.add(frame)
        self.sync_subscriptions()
        connection.wake()

    async def _tick(self, connection: Connection, session: DiallingSession) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(session.deadline):
                await self._begun.wait()
        while True:
            now = self._now()
            session.check(now)
            connection.control(session.due(now))
            await asyncio.sleep(max(min(session.deadline, session.next_keepalive) - now, 0.0))

    def _reannounce(self, vni: Vni) -> None:
        if vni in self._subscribed:
            return
        for route, frame in self._wanted.announced.items():
            if route.vni == vni:
                self.told(self.pending.repeat, frame)

    def _later(self, call: Callable[..., None], *arguments: Vni) -> None:
        asyncio.get_running_loop().call_later(REORDER_SECONDS, call, *arguments)

    def _enter(self, state: ConnectionState, error: str) -> None:
        self.state, self.error = state, error
        self._wanted.changed.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
