"""The TCP door: accepts peers, turns their frames into changes of the table and writes what is pending for them."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from services.common.addresses import join_address, split_address
from services.common.logs import get_logger
from services.metalbond.connection import Connection, until_first
from services.metalbond.reflector import Peer, Reflector
from services.metalbond.session import AcceptingSession, SessionExpired, State
from services.metalbond.wire import (
    DEFAULT_PORT,
    Framer,
    Keepalive,
    ProtocolError,
    Subscribe,
    Unsubscribe,
    Update,
    decode,
)

log = get_logger(__name__)

SWEEP_SECONDS: Final = 0.25
BACKLOG: Final = 1024
ACCEPT_PAUSE_SECONDS: Final = 0.5
PEER_CLOSED: Final = "closed by peer"


@dataclass
class Counters:
    """Since the process began."""

    sessions_accepted: int = 0
    sessions_refused: int = 0
    sessions_ended: Counter[str] = field(default_factory=Counter)  # by cause
    updates_in: int = 0
    updates_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class PeerLink:
    """One accepted connection."""

    def __init__(self, sock: socket.socket, name: str, reflector: Reflector, keepalive: int) -> None:
        self.peer = Peer(name, split_address(name)[0])
        self.connected_at = time.time()
        self.connection = Connection(sock, self.peer.pending)
        self._clock = asyncio.get_running_loop().time
        self.session = AcceptingSession(keepalive, now=self._clock())
        self._begun = asyncio.Event()
        self._reflector = reflector
        self._framer = Framer()

    async def run(self, wake: WakePeers) -> str:
        """Serves the peer to the end of its session and says why it ended."""
        try:
            await until_first(self._read(wake), self.connection.write_forever(self._established), self._watch())
        except (ProtocolError, SessionExpired) as error:
            log.warning("session ended by us", peer=self.peer.name, reason=str(error))
            return error.cause
        except OSError as error:
            log.info("connection lost", peer=self.peer.name, reason=str(error))
            return "connection lost"
        return PEER_CLOSED

    def _established(self) -> bool:
        return self.session.state is State.ESTABLISHED

    async def _read(self, wake: WakePeers) -> None:
        while data := await self.connection.read():
            try:
                for kind, payload in self._framer.feed(data):
                    self._receive(kind, payload)
            finally:
                wake()

    def _receive(self, kind: int, payload: bytes) -> None:
        frame = decode(kind, payload)
        before = self.session.state
        self.connection.control(self.session.receive(frame, self._clock()))
        match frame:
            case Update():
                self.connection.traffic.updates_in += 1
                self._reflector.update(self.peer, frame)
            case Subscribe(vni):
                self._reflector.subscribe(self.peer, vni)
            case Unsubscribe(vni):
                self._reflector.unsubscribe(self.peer, vni)
            case Keepalive() if before is not State.ESTABLISHED:
                self._begun.set()
                log.info("session established", peer=self.peer.name, keepalive=self.session.interval)
            case _ if before is State.CONNECTING:
                self._reflector.join(self.peer)

    async def _watch(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self.session.deadline):
                await self._begun.wait()
        while True:
            await asyncio.sleep(max(0.0, self.session.deadline - self._clock()))
            self.session.check(self._clock())


class WakePeers:
    """Wakes the writers of all peers for which the reflector has something new."""

    def __init__(self, reflector: Reflector, links: dict[Peer, PeerLink]) -> None:
        self._reflector = reflector
        self._links = links

    def __call__(self) -> None:
        for peer in self._reflector.take_woken():
            if link := self._links.get(peer):
                link.connection.wake()


class Server:
    """Serves the original TCP protocol.

    `keepalive` is our interval in seconds; `max_sessions` bounds memory, connections beyond it are closed at once.
    """

    def __init__(self, reflector: Reflector, *, keepalive: int, max_sessions: int) -> None:
        self.reflector = reflector
        self.counters = Counters()
        self.links: dict[Peer, PeerLink] = {}
        self._keepalive = keepalive
        self._max_sessions = max_sessions
        self._sessions: set[asyncio.Task[None]] = set()
        self._wake = WakePeers(reflector, self.links)

    @asynccontextmanager
    async def serving(self, listen: str) -> AsyncIterator[str]:
        """Serves while the context is open; yields the bound address. Raises ValueError and OSError."""
        _raise_file_limit()
        host, port = split_address(listen, DEFAULT_PORT)
        with _listener(host, port) as listener:
            async with asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(self._accept(listener, tasks), name="accept"),
                    tasks.create_task(self._sweep(), name="sweep"),
                ]
                bound = listener.getsockname()
                yield join_address(bound[0], bound[1])
                for task in (*work, *self._sessions):
                    task.cancel()

    async def _accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, remote = await loop.sock_accept(listener)
            except OSError as error:  # too many open files, or the peer was gone at once
                log.warning("connection not accepted", error=str(error))
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            if len(self.links) >= self._max_sessions:
                self.counters.sessions_refused += 1
                log.warning("connection refused", peer=remote[0], max_sessions=self._max_sessions)
                sock.close()
                continue
            name = join_address(remote[0].removeprefix("::ffff:"), remote[1])
            task = tasks.create_task(self._serve(sock, name), name=f"session {name}")
            self._sessions.add(task)
            task.add_done_callback(self._sessions.discard)

    async def _serve(self, sock: socket.socket, name: str) -> None:
        with sock:
            try:
                link = PeerLink(sock, name, self.reflector, self._keepalive)
            except OSError as error:
                log.info("connection lost", peer=name, reason=str(error))
                return
            self.links[link.peer] = link
            self.counters.sessions_accepted += 1
            log.info("peer connected", peer=name)
            cause = "server stopped"
            try:
                cause = await link.run(self._wake)
            except Exception as error:  # one peer's trouble never reaches another
                cause = "internal error"
                log.error("session failed", peer=name, error=str(error), exc_info=error)
            finally:
                self._ended(link, cause)

    def _ended(self, link: PeerLink, cause: str) -> None:
        del self.links[link.peer]
        link.session.state = State.CLOSED
        self.counters.sessions_ended[cause] += 1
        traffic = link.connection.traffic
        self.counters.updates_in += traffic.updates_in
        self.counters.updates_out += traffic.updates_out
        self.counters.bytes_in += traffic.bytes_in
        self.counters.bytes_out += traffic.bytes_out
        self.reflector.leave(link.peer, asyncio.get_running_loop().time())
        self._wake()
        log.info("session ended", peer=link.peer.name, cause=cause, stale_routes=link.peer.route_count)

    async def _sweep(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            more = self.reflector.sweep(clock())
            self._wake()
            await asyncio.sleep(0 if more else SWEEP_SECONDS)


def _listener(host: str, port: int) -> socket.socket:
    if host in ("", "::"):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    else:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
