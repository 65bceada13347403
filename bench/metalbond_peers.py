"""Peers for `bench.metalbond` that cost next to nothing: prebuilt buffers out, bytes counted in.

Blocking sockets, run in processes of their own. A sink doesn't look at what it gets: the bytes that must arrive are
known. Where a peer has to look, it splits with the same code as the server.
"""

from __future__ import annotations

import hashlib
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from multiprocessing.connection import Connection
from typing import Final

from services.metalbond import wire
from services.metalbond.routes import NextHop, Route, Vni
from services.metalbond.wire import Hello, Keepalive, Subscribe

INTERVAL: Final = 5
DEADLINE_SECONDS: Final = 120.0
_BUFFER: Final = 1 << 20


@dataclass(frozen=True)
class Address:
    """Where a server listens on loopback."""

    port: int
    host: str = "::1"


def routes(vni: int, count: int, *, first: int = 0, hop: int = 1) -> list[bytes]:
    """Frames that add IPv4 host routes; all of one length."""
    frame = wire.encode_route(Route(Vni(vni), ip_network("1.2.3.4/32"), NextHop(ip_address(f"2001:db8::{hop:x}"))))
    at = frame.index(bytes([1, 2, 3, 4]))
    return [
        frame[:at] + struct.pack(">I", 0x0A000000 + number) + frame[at + 4 :] for number in range(first, first + count)
    ]


def connect(address: Address, vnis: Iterable[int] = (), *, reassembles: bool = True) -> socket.socket:
    """An established session that follows some VNIs."""
    sock = socket.create_connection((address.host, address.port), timeout=DEADLINE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for said in (Hello(INTERVAL, reassembles=reassembles), Keepalive()):
        sock.sendall(wire.encode(said))
        _frame(sock)
    for vni in vnis:
        sock.sendall(wire.encode(Subscribe(Vni(vni))))
    return sock


def drain(sinks: Sequence[socket.socket], size: int) -> float:
    """Reads `size` bytes from each of the sinks; returns the monotonic time at which the last one had them. Raises
    TimeoutError."""
    left = dict.fromkeys(sinks, size)
    buffer = memoryview(bytearray(_BUFFER))
    with selectors.DefaultSelector() as selector:
        for sink in sinks:
            selector.register(sink, selectors.EVENT_READ)
        while left:
            ready = selector.select(DEADLINE_SECONDS)
            if not ready:
                raise TimeoutError(f"{len(left)} sinks still wait for up to {max(left.values())} bytes")
            for key, _ in ready:
                sink = key.fileobj
                assert isinstance(sink, socket.socket)
                left[sink] -= (count := sink.recv_into(buffer))
                if not count:
                    raise ConnectionError("the server closed a sink")
                if left[sink] <= 0:
                    assert left[sink] == 0, "more bytes than there should be"
                    selector.unregister(sink)
                    del left[sink]
    return time.monotonic()


def follow(address: Address, vni: int, count: int, orders: Connection) -> None:
    """Sinks that follow a VNI and live until an order comes; says first that they do, at last how many bytes came."""
    sinks = [connect(address, [vni]) for _ in range(count)]
    buffer, total, alive_at = memoryview(bytearray(_BUFFER)), 0, time.monotonic()
    with selectors.DefaultSelector() as selector:
        for sink in sinks:
            selector.register(sink, selectors.EVENT_READ)
        selector.register(orders, selectors.EVENT_READ, "order")
        orders.send(True)
        while True:
            for key, _ in selector.select(INTERVAL):
                if key.data == "order":
                    orders.send(total)
                    return
                assert isinstance(key.fileobj, socket.socket)
                total += key.fileobj.recv_into(buffer)
            if time.monotonic() - alive_at > INTERVAL:
                alive_at = time.monotonic()
                for sink in sinks:
                    sink.sendall(wire.encode(Keepalive()))


def count_bytes(address: Address, vnis: Sequence[int], count: int, reassembles: bool, orders: Connection) -> None:
    """Sinks that follow VNIs. Orders are sizes: answered with the time at which every sink had so many bytes more. A
    negative one is answered with the `digest` of what each sink got."""
    sinks = [connect(address, vnis, reassembles=reassembles) for _ in range(count)]
    orders.send(True)
    while size := orders.recv():
        orders.send(drain(sinks, size) if size > 0 else [digest(_exactly(sink, -size)) for sink in sinks])


def digest(stream: bytes) -> bytes:
    """Of a stream's frames in any order, each as often as it is there."""
    frames, at = [], 0
    while at < len(stream):
        end = at + wire.HEADER_SIZE + wire.HEADER.unpack_from(stream, at)[1]
        frames.append(stream[at:end])
        at = end
    return hashlib.sha256(b"".join(sorted(frames))).digest()


def _frame(sock: socket.socket) -> bytes:
    header = _exactly(sock, wire.HEADER_SIZE)
    return header + _exactly(sock, wire.HEADER.unpack(header)[1])


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("closed by the server")
        data += more
    return bytes(data)
