"""Peers that can't put split frames together, as those of the original: one read is one buffer of whole frames, and a
full buffer means that they fell behind. They must get everything without a reset."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field

import pytest

from services.metalbond import wire
from services.metalbond.wire import Framer, Hello, Keepalive, RouteFrame, Subscribe, Update
from tests.integration.metalbond.conftest import ServerProcess, raw_peer
from tests.integration.metalbond.test_server import VNI, add_many

READ_BYTES = 65_535
DEADLINE_SECONDS = 120.0


@dataclass
class FragilePeer:
    """Reads as the original does: each read is parsed by itself. `pause` (s) follows each `every` updates."""

    port: int
    every: int
    pause: float
    told: set[RouteFrame] = field(default_factory=set)
    handled: int = 0

    def run(self, wanted: int) -> None:
        """Follows the VNI until so many routes are told. Raises AssertionError when a read breaks it."""
        with socket.create_connection(("::1", self.port)) as sock:
            sock.settimeout(DEADLINE_SECONDS)
            for said in (Hello(5), Keepalive()):
                sock.sendall(wire.encode(said))
                self._read(sock)
            sock.sendall(wire.encode(Subscribe(VNI)))
            alive_at = time.monotonic()
            while len(self.told) < wanted:
                self._read(sock)
                if time.monotonic() - alive_at > 3:
                    alive_at = time.monotonic()
                    sock.sendall(wire.encode(Keepalive()))

    def _read(self, sock: socket.socket) -> None:
        data = sock.recv(READ_BYTES)
        assert data, "closed by the server"
        assert len(data) < READ_BYTES, "too many messages in inbound queue"
        framer = Framer()
        taken = 0
        for kind, payload in framer.feed(data):
            taken += wire.HEADER_SIZE + len(payload)
            frame = wire.decode(kind, payload)
            if isinstance(frame, Update):
                assert frame.route not in self.told, "told twice"
                self.told.add(frame.route)
                self.handled += 1
                if self.every and self.handled % self.every == 0:
                    time.sleep(self.pause)
        assert taken == len(data), "a read ended inside a frame"


@pytest.mark.parametrize(
    ("every", "pause"),
    [pytest.param(0, 0.0, id="one that reads fast"), pytest.param(2000, 0.1, id="one that handles 20,000 routes/s")],
)
async def test_a_hundred_thousand_routes_reach_a_fragile_peer(server: ServerProcess, every: int, pause: float) -> None:
    count = 100_000
    async with raw_peer(server) as source:
        await source.handshake()
        source.send(b"".join(add_many(range(count))))
        source.send(Keepalive())
        await source.receive(1, within=60)
        peer = FragilePeer(server.port, every, pause)
        work = asyncio.create_task(asyncio.to_thread(peer.run, count))
        while not work.done():
            source.send(Keepalive())
            await source.receive(1)
            await asyncio.wait([work], timeout=2.0)
        await work
    assert len(peer.told) == count
