"""The client's end of the original's TCP protocol: one session from dialling to its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from services.metalbond.client_state import Upstream
from services.metalbond.connection import Connection, Traffic, until_first
from services.metalbond.pacing import EchoPacer
from services.metalbond.session import DiallingSession, State
from services.metalbond.wire import Frame, Framer, Hello, Keepalive, Update, decode

CONNECT_SECONDS: Final = 5.0
ASK_PAUSE_SECONDS: Final = 0.005  # between groups of subscriptions: the original queues a hundred


class TcpDoor:
    """`address` is host and port; `local` is the address to connect from, empty for any; a `reflector` says so to the
    server. `began` and `learned` are
    called when a session is established and whenever routes may have changed."""

    name: Final = "tcp"

    def __init__(
        self,
        address: tuple[str, int],
        keepalive: int,
        local: str,
        began: Callable[[], None],
        learned: Callable[[], None],
        reflector: bool = False,
    ) -> None:
        self._address, self._keepalive, self._reflector = address, keepalive, reflector
        self._local = (local, 0) if local else None
        self._began, self._learned = began, learned
        self._session: _Session | None = None

    def wake(self) -> None:
        """The upstream has requests or something pending."""
        if self._session is not None:
            self._session.wake()

    async def session(self, upstream: Upstream, traffic: Traffic) -> None:
        """Serves one session; returns when the server closed it. Raises OSError, ProtocolError and SessionExpired."""
        with await self._dial() as sock:
            now = asyncio.get_running_loop().time()
            protocol = DiallingSession(self._keepalive, now=now, reflector=self._reflector)
            self._session = _Session(sock, upstream, protocol, traffic, self._began, self._learned)
            try:
                await self._session.run()
            finally:
                self._session = None

    async def _dial(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        host, port = self._address
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        trouble: OSError = ConnectionError(f"{host} has no address")
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                if self._local is not None:
                    sock.bind(self._local)
                async with asyncio.timeout(CONNECT_SECONDS):
                    await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                trouble = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise trouble


class _Session:
    def __init__(
        self,
        sock: socket.socket,
        upstream: Upstream,
        protocol: DiallingSession,
        traffic: Traffic,
        began: Callable[[], None],
        learned: Callable[[], None],
    ) -> None:
        self._upstream, self._began, self._learned = upstream, began, learned
        self._clock = asyncio.get_running_loop().time
        self._protocol = protocol
        self._connection = Connection(sock, upstream.open(), EchoPacer())
        self._connection.traffic = traffic
        self._established = asyncio.Event()
        self._asks = asyncio.Event()

    async def run(self) -> None:
        self._connection.control(self._protocol.opened())
        await until_first(
            self._read(),
            self._connection.write_forever(self._established.is_set),
            self._tick(),
            self._ask(),
        )

    def wake(self) -> None:
        self._asks.set()
        self._connection.wake()

    async def _read(self) -> None:
        framer = Framer()
        while data := await self._connection.read():
            try:
                for kind, payload in framer.feed(data):
                    self._receive(decode(kind, payload))
            finally:
                self._learned()

    def _receive(self, frame: Frame) -> None:
        before, now = self._protocol.state, self._clock()
        self._connection.control(self._protocol.receive(frame, now))
        if isinstance(frame, Hello) and frame.reassembles:
            self._connection.unpace()
        elif isinstance(frame, Update):
            self._connection.traffic.updates_in += 1
            self._upstream.receive(frame, now)
        elif isinstance(frame, Keepalive):
            self._connection.answered()
            if before is not State.ESTABLISHED:
                self._upstream.begin(now, marks=False, forgets=True)
                self._established.set()
                self._began()
                self.wake()

    async def _tick(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._protocol.deadline):
                await self._established.wait()
        while True:
            now = self._clock()
            self._protocol.check(now)
            self._connection.control(self._protocol.due(now))
            await asyncio.sleep(max(min(self._protocol.deadline, self._protocol.next_keepalive) - now, 0.0))

    async def _ask(self) -> None:
        while True:
            self._asks.clear()
            requests = self._upstream.requests(self._clock())
            self._connection.control(list(requests))
            if requests:
                await asyncio.sleep(ASK_PAUSE_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._upstream.next_request):
                    await self._asks.wait()
