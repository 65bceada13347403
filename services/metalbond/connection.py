"""A TCP connection that carries frames: reads whatever comes, writes whole frames only, control frames first.

It works on a plain non-blocking socket because it needs what asyncio's transports hide: the end-of-record flag that
keeps the kernel from joining segments inside a frame, and TCP's own account of what the peer has read.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final

from services.metalbond.pacing import CHUNK, POLL_SECONDS, EchoPacer, WindowPacer
from services.metalbond.pending import Pending
from services.metalbond.session import SessionExpired
from services.metalbond.wire import Frame, Keepalive, ProtocolError, encode

READ_BYTES: Final = 256 * 1024
STALL_SECONDS: Final = 60.0  # a peer that reads nothing for so long is given up
MAX_CONTROL_FRAMES: Final = 256
UNPACED_BYTES: Final = 64 * 1024
_SEND_WINDOW_OFFSET: Final = 228  # of tcpi_snd_wnd in struct tcp_info (linux/tcp.h)


@dataclass
class Traffic:
    """What went through a connection; updates count routes."""

    bytes_in: int = 0
    bytes_out: int = 0
    updates_in: int = 0
    updates_out: int = 0

    def include(self, other: Traffic) -> None:
        """Adds what went through another one."""
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.updates_in += other.updates_in
        self.updates_out += other.updates_out


class Connection:
    """The dialling side's socket. `pending` is what the peer has yet to hear of routes; call `wake` when something was
    added. With an `echo` pacer keepalives that the peer answers clock the updates as well; without, the peer is one
    that puts frames together and is sent what it takes.
    """

    def __init__(self, sock: socket.socket, pending: Pending, echo: EchoPacer | None = None) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.traffic = Traffic()
        self._sock = sock
        self._pending = pending
        self._echo = echo
        self._control: list[Frame] = []
        self._awake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def read(self) -> bytes:
        """Some bytes; none at the end of the stream. Raises OSError. Lets other connections run in between."""
        await asyncio.sleep(0)  # a socket that always has data would otherwise never suspend
        data = await self._loop.sock_recv(self._sock, READ_BYTES)
        self.traffic.bytes_in += len(data)
        return data

    def control(self, frames: list[Frame]) -> None:
        """Sends frames ahead of all updates. Raises ProtocolError for a peer that asks but does not read."""
        self._control += frames
        if len(self._control) > MAX_CONTROL_FRAMES:
            raise ProtocolError("does not read", f"{len(self._control)} answers wait to be read")
        if frames:
            self._awake.set()

    def answered(self) -> None:
        """A keepalive arrived: the peer has read what we sent before ours."""
        if self._echo is not None:
            self._echo.answered()
            self._awake.set()

    def wake(self) -> None:
        """Something is pending."""
        self._awake.set()

    async def write_forever(self, may_update: Callable[[], bool]) -> None:
        """Writes control frames, and pending updates while `may_update` says so. Raises OSError, and SessionExpired
        for a peer that has not read for a minute."""
        stalled_since: float | None = None
        while True:
            self._awake.clear()
            if self._control:
                await self._write_control()
                continue
            if not self._pending or not may_update():
                stalled_since = None
                await self._awake.wait()
                continue
            if size := self._allowance():
                await self._write_updates(size)
                stalled_since = None
                continue
            stalled_since = stalled_since or self._loop.time()
            if self._loop.time() - stalled_since > STALL_SECONDS:
                raise SessionExpired("stalled", f"the peer read nothing for {STALL_SECONDS:.0f} s")
            timer = self._loop.call_later(POLL_SECONDS, self._awake.set)
            await self._awake.wait()
            timer.cancel()

    def unpace(self) -> None:
        """The peer puts frames together: it may be sent any amount."""
        self._echo = None

    def close(self) -> None:
        """Ends the connection."""
        self._sock.close()

    def _allowance(self) -> int:
        return UNPACED_BYTES if self._echo is None else self._echo.allowance()

    async def _write_control(self) -> None:
        frames, self._control = self._control, []
        if self._echo is not None:
            for _ in filter(lambda frame: isinstance(frame, Keepalive), frames):
                self._echo.probed()
        await self._write([encode(frame) for frame in frames])

    async def _write_updates(self, size: int) -> None:
        frames = self._pending.take_frames(size)
        await self._write(frames)
        self.traffic.updates_out += len(frames)
        if self._echo is not None and self._echo.sent(sum(map(len, frames))):
            self.control([Keepalive()])

    async def _write(self, frames: list[bytes]) -> None:
        for segment in segments(frames, segment_size(self._sock)):
            rest = segment
            while rest:
                try:
                    sent = self._sock.send(rest, socket.MSG_EOR | socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    await self._writable()
                    continue
                rest = rest[sent:]
            self.traffic.bytes_out += len(segment)

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        self._loop.add_writer(self._sock, _resolve, ready)
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await ready
        except TimeoutError as error:
            raise SessionExpired("stalled", f"nothing could be written for {STALL_SECONDS:.0f} s") from error
        finally:
            self._loop.remove_writer(self._sock)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def allowance(sock: socket.socket, pacer: WindowPacer, now: float) -> int:
    """Bytes of updates that may be sent now to a peer that can't put frames together. Raises OSError."""
    unacknowledged = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SEND_WINDOW_OFFSET + 4)
    return pacer.allowance(unacknowledged, struct.unpack_from("I", info, _SEND_WINDOW_OFFSET)[0], now)


def segment_size(sock: socket.socket) -> int:
    """The most bytes that leave in one segment; they shrink with the path's MTU. Raises OSError."""
    return min(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), CHUNK)


def segments(frames: list[bytes], size: int) -> Iterator[bytes]:
    """The frames joined into segments of whole frames, none above `size` unless a single frame is."""
    start = total = 0
    for index, frame in enumerate(frames):
        if total + len(frame) > size and index > start:
            yield b"".join(frames[start:index])
            start, total = index, 0
        total += len(frame)
    if start < len(frames):
        yield b"".join(frames[start:])


async def until_first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs them side by side until one ends, ends the others, and raises what the first one raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
