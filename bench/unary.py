"""Unary gRPC calls by the thousand for next to no time of the caller's own, so that the server is what is measured.

One connection over a unix socket, frames of HTTP/2 (RFC 9113) written and read by hand. Header blocks (RFC 7541) are
made once for each method; those of answers are not read: an answer is a message that the caller checks.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS: Final = 4
FRAME: Final = struct.Struct(">HBBBI")  # 24 bits of length, type, flags, stream
WINDOW: Final = 65_535  # of a connection at first
LARGEST_WINDOW: Final = (1 << 31) - 1
TIMEOUT: Final = b"10S"
READ_BYTES: Final = 1 << 16


class UnaryCalls:
    """A connection. `check` gets each answer's message, equal ones once, and raises when it is a bad one."""

    def __init__(self, path: Path, check: Callable[[bytes], object]) -> None:
        """Raises OSError."""
        self._check = check
        self._good: set[bytes] = set()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self._unread = b""
        self._room = WINDOW
        self._begun = 0
        self._waiting: set[int] = set()  # streams
        self._messages: set[int] = set()  # streams whose answer has come, but not its end
        more = (LARGEST_WINDOW - WINDOW).to_bytes(4, "big")
        self._socket.sendall(PREFACE + _frame(SETTINGS, 0, 0, b"") + _frame(WINDOW_UPDATE, 0, 0, more))

    def __enter__(self) -> UnaryCalls:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def oldest(self) -> int:
        """The number of the first call without an answer; of the next one if all have theirs."""
        return min(self._waiting) // 2 if self._waiting else self._begun

    def begin(self, calls: Iterable[tuple[bytes, bytes]]) -> None:
        """Sends header blocks and messages in one go. Raises OSError."""
        frames = []
        for block, message in calls:
            stream = 2 * self._begun + 1
            self._begun += 1
            self._waiting.add(stream)
            self._room -= len(message) + 5
            prefixed = b"\0" + len(message).to_bytes(4, "big") + message
            frames += [_frame(HEADERS, END_HEADERS, stream, block), _frame(DATA, END_STREAM, stream, prefixed)]
        self._socket.sendall(b"".join(frames))
        while self._room < READ_BYTES // 2:
            self.read()

    def finish(self) -> None:
        """Waits for all answers."""
        while self._waiting:
            self.read()

    def all(self, calls: Iterable[tuple[bytes, bytes]]) -> float:
        """Sends them all at once; seconds until the last answer."""
        started = time.monotonic()
        self.begin(calls)
        self.finish()
        return time.monotonic() - started

    def read(self) -> None:
        """Takes in what has come, at least something. Raises OSError, RuntimeError for a call that failed."""
        came = self._socket.recv(READ_BYTES)
        if not came:
            raise ConnectionError("the server hung up")
        data, at = self._unread + came, 0
        while len(data) - at >= FRAME.size:
            upper, lower, kind, flags, stream = FRAME.unpack_from(data, at)
            end = at + FRAME.size + (upper << 8 | lower)
            if end > len(data):
                break
            self._take(kind, flags, stream, data[at + FRAME.size : end])
            at = end
        self._unread = data[at:]

    def _take(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        match kind:
            case _ if kind == DATA:
                if content not in self._good:
                    self._check(content[5:])
                    self._good.add(content)
                self._messages.add(stream)
            case _ if kind == HEADERS and flags & END_STREAM:
                if stream not in self._messages:
                    raise RuntimeError("a call failed")
                self._messages.remove(stream)
                self._waiting.remove(stream)
            case _ if kind == WINDOW_UPDATE and not stream:
                self._room += int.from_bytes(content, "big")
            case _ if kind in (SETTINGS, PING) and not flags & ACK:
                self._socket.sendall(_frame(kind, ACK, 0, content if kind == PING else b""))
            case _ if kind in (RST_STREAM, GOAWAY):
                raise RuntimeError(f"the server ended {'a call' if stream else 'the connection'}: {content!r}")


def header_block(method: str) -> bytes:
    """Of a call to `/package.Service/Method`, without any table of the connection's."""
    return b"\x83\x86" + b"".join(
        name + _text(value)
        for name, value in (
            (b"\x04", method.encode()),  # :path
            (b"\x01", b"localhost"),  # :authority
            (b"\x0f\x10", b"application/grpc"),  # content-type
            (b"\0" + _text(b"te"), b"trailers"),
            (b"\0" + _text(b"grpc-timeout"), TIMEOUT),
        )
    )


def _text(value: bytes) -> bytes:
    return bytes((len(value),)) + value  # plain, shorter than 127


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return FRAME.pack(len(content) >> 8, len(content) & 0xFF, kind, flags, stream) + content
