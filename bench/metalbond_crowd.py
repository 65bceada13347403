"""Many peers at once for `bench.metalbond`, on one event loop: they answer keepalives and count what they are told."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final

from bench.metalbond_peers import INTERVAL, Address, routes
from services.metalbond import wire
from services.metalbond.client import Change, MetalbondClient, NextHop, Route, Vni
from services.metalbond.runs import Run, Splitter, removals
from services.metalbond.wire import Hello, Keepalive, Subscribe
from tests.support.eventually import eventually

CHURN_TICK_SECONDS: Final = 0.01
RECONNECT_SECONDS: Final = 0.5


@dataclass
class Peer(asyncio.Protocol):
    """Follows `vnis` and announces `frames`; counts routes told and taken back."""

    vnis: list[int] = field(default_factory=list)
    frames: bytes = b""
    added: int = 0
    removed: int = 0
    established: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    _splitter: Splitter = field(default_factory=Splitter)
    _transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(wire.encode(Hello(INTERVAL, reassembles=True)))

    def data_received(self, data: bytes) -> None:
        for item in self._splitter.feed(data):
            match item:
                case Run():
                    self.added += 0 if item.removed else len(item.routes)
                    self.removed += len(item.routes) if item.removed else 0
                case Hello():
                    self.send(wire.encode(Keepalive()))
                case Keepalive() if not self.established.is_set():
                    self.established.set()
                    self.send(self.frames + b"".join(wire.encode(Subscribe(Vni(vni))) for vni in self.vnis))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()

    def send(self, data: bytes) -> None:
        """Writes frames."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.abort()

    async def keep_alive(self) -> None:
        """Says so each interval, for ever."""
        await asyncio.sleep(random.uniform(0, INTERVAL))  # as peers that began at different times
        while True:
            self.send(wire.encode(Keepalive()))
            await asyncio.sleep(INTERVAL)


@asynccontextmanager
async def crowd(address: Address, peers: list[Peer]) -> AsyncIterator[None]:
    """The peers, established and alive."""
    loop = asyncio.get_running_loop()
    for peer in peers:
        await loop.create_connection(lambda peer=peer: peer, address.host, address.port)  # type: ignore[misc]
    async with asyncio.timeout(60):
        for peer in peers:
            await peer.established.wait()
    tasks = [asyncio.create_task(peer.keep_alive()) for peer in peers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for peer in peers:
            peer.close()


async def convergence(address: Address, door: str, *, vni: int, churn_per_s: int, samples: int) -> list[float]:
    """Seconds from writing an announcement to its arrival at one real client, while other routes of the same VNI come
    and go."""
    loop = asyncio.get_running_loop()
    churners, prober = [Peer() for _ in range(10)], Peer()
    sent_at: dict[Route, float] = {}
    took: list[float] = []

    async def watch(client: MetalbondClient) -> None:
        async for change in client.changes():
            if change.kind is Change.ADDED and change.route in sent_at:
                took.append(loop.time() - sent_at.pop(change.route))

    async with crowd(address, [*churners, prober]), MetalbondClient([door], node="bench") as client:
        client.subscribe(Vni(vni))
        await client.wait_established()
        watching = asyncio.create_task(watch(client))
        churning = asyncio.create_task(_churn(churners, vni, churn_per_s))
        await asyncio.sleep(1.0)
        for number in range(samples):
            destination = ip_network(f"172.16.{number >> 8}.{number & 255}/32")
            probe = Route(Vni(vni), destination, NextHop(ip_address("2001:db8::ffff")))
            sent_at[probe] = loop.time()
            prober.send(wire.encode_route(probe))
            await asyncio.sleep(random.uniform(0.01, 0.05))
        await eventually(lambda: not sent_at)
        for task in (watching, churning):
            task.cancel()
        await asyncio.gather(watching, churning, return_exceptions=True)
    return took


async def withdrawn(door: str, vnis: list[int], seen: list[int]) -> None:
    """A real client that follows VNIs, for ever; appends to `seen` for each route that it loses sight of."""
    async with MetalbondClient([door], node=f"bench/{vnis[0]}") as client:
        for vni in vnis:
            client.subscribe(Vni(vni))
        async for change in client.changes():
            if change.kind is Change.REMOVED:
                seen.append(change.route.vni)


async def _churn(peers: list[Peer], vni: int, per_s: int) -> None:
    """Announces and withdraws, a little each tick, as many a second as asked for."""
    each = max(1, int(per_s * CHURN_TICK_SECONDS / 2))
    live: deque[tuple[Peer, list[bytes]]] = deque()
    loop, due, number = asyncio.get_running_loop(), asyncio.get_running_loop().time(), 0
    while True:
        peer = peers[number % len(peers)]
        batch = routes(vni, each, first=(number * each) % (1 << 23), hop=2 + number % len(peers))
        peer.send(b"".join(batch))
        live.append((peer, batch))
        if len(live) > 100:
            old, gone = live.popleft()
            old.send(removals([wire.RouteFrame(route) for route in gone]))
        number, due = number + 1, due + CHURN_TICK_SECONDS
        await asyncio.sleep(max(0.0, due - loop.time()))


class Restarting:
    """Peers that come back when the server does; what they count survives their sessions."""

    def __init__(self, address: Address, *, peers: int, vnis: int, routes_each: int) -> None:
        self._address = address
        self._wanted: list[tuple[int, bytes]] = []
        for number in range(peers):
            vni = 100 + number % vnis
            own = routes(vni, routes_each, first=number * routes_each, hop=1 + number)
            self._wanted.append((vni, b"".join(own)))
        self._expected = [(peers // vnis - 1) * routes_each] * peers
        self.removed = 0
        self._now: list[Peer | None] = [None] * peers

    async def run(self) -> None:
        """Keeps all connected, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(len(self._wanted)):
                tasks.create_task(self._keep(number))

    async def complete(self) -> float:
        """Returns when every peer was told the routes of all others, in its session; the monotonic time."""
        await eventually(
            lambda: all(
                peer is not None and peer.added - peer.removed >= expected
                for peer, expected in zip(self._now, self._expected, strict=True)
            ),
            within=60,
        )
        return time.monotonic()

    async def gone(self) -> None:
        """Returns when no peer has a session."""
        await eventually(lambda: not any(self._now))

    async def _keep(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        vni, frames = self._wanted[number]
        while True:
            peer = Peer([vni], frames)
            with suppress(OSError):
                await loop.create_connection(lambda peer=peer: peer, self._address.host, self._address.port)  # type: ignore[misc]
                self._now[number] = peer
                alive = asyncio.create_task(peer.keep_alive())
                await peer.lost.wait()
                alive.cancel()
                self.removed += peer.removed
                self._now[number] = None
            await asyncio.sleep(RECONNECT_SECONDS * random.uniform(0.5, 1.5))

    def total_removed(self) -> int:
        """Routes taken back, in all sessions."""
        return self.removed + sum(peer.removed for peer in self._now if peer is not None)
