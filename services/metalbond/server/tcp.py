"""The TCP door: accepts peers of the original protocol, turns their frames into changes of the table and tells them
what is new.

It works on plain non-blocking sockets and callbacks, without a task per peer: what asyncio's transports hide is needed
(the end-of-record flag that keeps the kernel from joining segments inside a frame, and TCP's account of what the peer
has read), and a thousand silent peers cost nothing.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.common.addresses import join_address, split_address
from services.common.logs import get_logger
from services.metalbond.connection import MAX_CONTROL_FRAMES, Traffic, allowance, segment_size, segments
from services.metalbond.pacing import POLL_SECONDS, WindowPacer
from services.metalbond.routes import Vni
from services.metalbond.runs import Run, Splitter, net
from services.metalbond.server.hub import PEER_CLOSED, STALL_SECONDS, Hub
from services.metalbond.server.policy import ANONYMOUS
from services.metalbond.server.reflector import Peer
from services.metalbond.session import AcceptingSession, SessionExpired, State
from services.metalbond.wire import DEFAULT_PORT, Frame, Hello, Keepalive, ProtocolError, Subscribe, Unsubscribe, encode

log = get_logger(__name__)

BACKLOG: Final = 1024
MOST_POLL_SECONDS: Final = 0.1  # of peers that read nothing: many of them must not keep the process busy
ACCEPTED_AT_ONCE: Final = 64
ACCEPT_PAUSE_SECONDS: Final = 0.5
READ_BYTES: Final = 128 * 1024
WRITE_BYTES: Final = 256 * 1024
_KEEPALIVE: Final = encode(Keepalive())
ROUNDS: Final = 4  # of writing before others have their turn


class TcpPeer:
    """One accepted connection."""

    door: Final = "tcp"

    def __init__(self, hub: Hub, sock: socket.socket, name: str, keepalive: int) -> None:
        self.origin = split_address(name)[0]
        self.peer = Peer(name, self.origin)
        self.rule = hub.policy.rule_for(ANONYMOUS)
        self.connected_at = time.time()
        self.traffic = Traffic()
        self._hub = hub
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._session = AcceptingSession(keepalive, now=self._loop.time())
        self._splitter = Splitter()
        self._pacer: WindowPacer | None = WindowPacer()
        self._control: list[Frame] = []
        self._out: deque[memoryview] = deque()
        self._blocked = False
        self._stalled_since: float | None = None
        self._poll = POLL_SECONDS
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._closed = False
        self._loop.add_reader(sock, self._readable)

    @property
    def state(self) -> State:
        """Where the handshake stands."""
        return self._session.state

    @property
    def keepalive(self) -> int:
        """Interval in seconds."""
        return self._session.interval

    def flush(self) -> None:
        """Writes as much as the socket takes; the rest when it takes more."""
        if self._closed or self._blocked:
            return
        self._stop_timer()
        try:
            self._write()
        except OSError as error:
            self._lost(error)
        except Exception as error:  # one peer's trouble never reaches another
            self._failed(error)

    def check(self, now: float) -> None:
        """Ends a session whose peer is silent or reads nothing."""
        try:
            self._session.check(now)
        except SessionExpired as error:
            self._end_for(error)
            return
        if self._stalled_since is not None and now - self._stalled_since > STALL_SECONDS:
            self.end("stalled", f"the peer read nothing for {STALL_SECONDS:.0f} s")

    def end(self, cause: str, detail: str) -> None:
        """Closes the connection."""
        if cause != "server stopped":
            log.warning("session ended by us", peer=self.peer.name, reason=f"{cause}: {detail}")
        self._close(cause)

    def refuse(self, vni: Vni, *, announcing: bool, reason: str) -> None:
        """The protocol has no words for it."""

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error)
            return
        if not data:
            self._close(PEER_CLOSED)
            return
        self.traffic.bytes_in += len(data)
        now = self._loop.time()
        self._session.heard(now)
        plain = data == _KEEPALIVE and self.state is State.ESTABLISHED and not self._splitter.incomplete
        if plain and len(self._out) < MAX_CONTROL_FRAMES:
            self._out.append(memoryview(_KEEPALIVE))  # what nearly all reads of a quiet server come to
            self.flush()
            return
        try:
            self._receive_all(data, now)
        except ProtocolError as error:
            self._end_for(error)
        except Exception as error:
            self._failed(error)
        self._hub.changed()
        if self._control:
            self.flush()

    def _receive_all(self, data: bytes, now: float) -> None:
        runs: list[Run] = []
        try:
            for item in self._splitter.feed(data):
                if isinstance(item, Run):
                    self._session.check_update()
                    self.traffic.updates_in += len(item.routes)
                    runs.append(item)
                else:
                    self._receive(item, now)
        finally:  # also what came before a bad frame
            for run in net(runs):
                self._hub.apply(self, run, now)

    def _receive(self, item: Frame, now: float) -> None:
        before = self._session.state
        self._answer(self._session.receive(item, now))
        match item:
            case Subscribe(vni):
                self._hub.subscribe(self, vni)
            case Unsubscribe(vni):
                self._hub.reflector.unsubscribe(self.peer, vni)
            case Hello():
                if item.reassembles:
                    self._pacer = None
                self.peer.reflector = item.is_server
                self._hub.reflector.join(self.peer)
            case _ if before is not State.ESTABLISHED:
                log.info("session established", peer=self.peer.name, keepalive=self.keepalive)

    def _answer(self, frames: list[Frame]) -> None:
        self._control += frames
        if len(self._control) > MAX_CONTROL_FRAMES:
            raise ProtocolError("does not read", f"{len(self._control)} answers wait to be read")

    def _write(self) -> None:
        try:
            self._write_some()
        finally:
            self.traffic.updates_out = self.peer.told

    def _write_some(self) -> None:
        for _ in range(ROUNDS):
            if self._out and not self._send():
                return
            if self._control:
                frames, self._control = self._control, []
                self._put([encode(frame) for frame in frames])
            elif not self.peer.ready or self.state is not State.ESTABLISHED:
                self._stalled_since = None
                return
            elif self._pacer is None:
                buffers, _ = self.peer.take(WRITE_BYTES, self._observe)
                self._out.append(memoryview(b"".join(buffers)))
            elif size := allowance(self._sock, self._pacer, self._loop.time()):
                self._poll = POLL_SECONDS
                buffers, _ = self.peer.take(size, self._observe, frames=True)
                self._put(buffers)
            else:
                self._stalled_since = self._stalled_since or self._loop.time()
                self._timer = self._loop.call_later(self._poll, self.flush)
                self._poll = min(self._poll * 2, MOST_POLL_SECONDS)
                return
        self._timer = self._loop.call_soon(self.flush)

    def _observe(self, at: float, count: int) -> None:
        self._hub.observe(at, count)

    def _put(self, frames: list[bytes]) -> None:
        self._out += map(memoryview, segments(frames, segment_size(self._sock)))

    def _send(self) -> bool:
        """Writes what is in hand; False when the socket takes no more of it now."""
        flags = socket.MSG_NOSIGNAL | (socket.MSG_EOR if self._pacer is not None else 0)
        while self._out:
            buffer = self._out[0]
            try:
                sent = self._sock.send(buffer, flags) if buffer else 0
            except (BlockingIOError, InterruptedError):
                self._blocked = True
                self._stalled_since = self._stalled_since or self._loop.time()
                self._loop.add_writer(self._sock, self._writable)
                return False
            self._stalled_since = None
            self.traffic.bytes_out += sent
            if sent < len(buffer):
                self._out[0] = buffer[sent:]
            else:
                self._out.popleft()
        return True

    def _writable(self) -> None:
        self._blocked = False
        self._loop.remove_writer(self._sock)
        self.flush()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_for(self, error: ProtocolError | SessionExpired) -> None:
        log.warning("session ended by us", peer=self.peer.name, reason=str(error))
        self._close(error.cause)

    def _lost(self, error: OSError) -> None:
        log.info("connection lost", peer=self.peer.name, reason=str(error))
        self._close("connection lost")

    def _failed(self, error: Exception) -> None:
        log.error("session failed", peer=self.peer.name, error=str(error), exc_info=error)
        self._close("internal error")

    def _close(self, cause: str) -> None:
        if self._closed:
            return
        self._closed = True
        self._stop_timer()
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._hub.ended(self, cause)


class TcpDoor:
    """Serves the original TCP protocol. `keepalive` is our interval in seconds."""

    def __init__(self, hub: Hub, keepalive: int) -> None:
        self._hub = hub
        self._keepalive = keepalive

    @asynccontextmanager
    async def serving(self, listen: str) -> AsyncIterator[str]:
        """Serves while the context is open; yields the bound address. Raises ValueError and OSError."""
        raise_file_limit()
        loop = asyncio.get_running_loop()
        with _listener(*split_address(listen, DEFAULT_PORT)) as listener:
            loop.add_reader(listener, self._accept, listener)
            bound = listener.getsockname()
            try:
                yield join_address(bound[0], bound[1])
            finally:
                loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, remote = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # too many open files, or the peer was gone at once
                log.warning("connection not accepted", error=str(error))
                loop.remove_reader(listener)
                loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume, listener)
                return
            self._admit(sock, remote)

    def _resume(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _admit(self, sock: socket.socket, remote: tuple[str, int]) -> None:
        name = join_address(remote[0].removeprefix("::ffff:"), remote[1])
        if reason := self._hub.refuses(split_address(name)[0]):
            log.warning("connection refused", peer=name, reason=reason)
            sock.close()
            return
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            log.info("connection lost", peer=name, reason=str(error))
            sock.close()
            return
        self._hub.began(TcpPeer(self._hub, sock, name, self._keepalive))


def _listener(host: str, port: int) -> socket.socket:
    if host in ("", "::"):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    else:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def raise_file_limit() -> None:
    """As many connections as the process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
