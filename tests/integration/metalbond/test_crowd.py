"""Many peers of a real server on real sockets, some of which are stopped, killed, half open or out of their mind."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.metalbond import wire
from services.metalbond.routes import Vni
from services.metalbond.runs import Run, Splitter, removals
from services.metalbond.wire import Hello, Keepalive, RouteFrame, Subscribe, Unsubscribe, Update
from tests.integration.metalbond.conftest import RawPeer, ServerProcess, raw_peer
from tests.integration.metalbond.test_server import VNI, add, add_many
from tests.support.eventually import eventually

Make = Callable[..., Awaitable[ServerProcess]]
MEBIBYTE = 1024 * 1024
AT_ONCE_SECONDS = 10.0
"""For an answer on a busy machine; whoever waits for all of what others do here waits much longer."""


def resident(server: ServerProcess) -> int:
    """Bytes of memory."""
    assert server.process is not None
    status = Path("/proc", str(server.process.pid), "status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


async def told(peer: RawPeer, count: int) -> set[RouteFrame]:
    """The next routes that come; none may go."""
    received = await peer.receive(count, within=60)
    assert all(isinstance(update, Update) and not update.removed for update in received)
    return {update.route for update in received if isinstance(update, Update)}


@pytest.mark.parametrize("count", [1, 10, 200])
async def test_everybody_hears_of_all_others(server: ServerProcess, count: int) -> None:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(raw_peer(server)) for _ in range(count)]
        await asyncio.gather(*(peer.handshake() for peer in peers))
        for number, peer in enumerate(peers):
            peer.send(Subscribe(VNI))
            peer.send(add(2 * number) + add(2 * number + 1))
        everything = {add(number) for number in range(2 * count)}
        found = await asyncio.gather(*(told(peer, 2 * count - 2) for peer in peers))
        for number, routes in enumerate(found):
            assert routes == everything - {add(2 * number), add(2 * number + 1)}
        for peer in peers:
            peer.send(Keepalive())
            assert await peer.receive(1) == [Keepalive()], "nothing was told twice"


async def test_a_stopped_server_goes_on_where_it_was(server: ServerProcess) -> None:
    assert server.process is not None
    async with raw_peer(server) as source, raw_peer(server) as sink:
        await source.handshake()
        await sink.handshake()
        sink.send(Subscribe(VNI))
        source.send(add(1))
        await told(sink, 1)
        server.process.send_signal(signal.SIGSTOP)
        source.send(b"".join(add(number) for number in range(2, 1000)))
        source.send(wire.removal(add(1)))
        await asyncio.sleep(1.0)
        server.process.send_signal(signal.SIGCONT)
        received = [update for update in await sink.receive(999, within=30) if isinstance(update, Update)]
        assert [update.route for update in received if update.removed] == [add(1)]


async def test_half_open_sessions_are_closed_in_time(server: ServerProcess) -> None:
    async with raw_peer(server) as mute, raw_peer(server) as half, raw_peer(server) as bystander:
        await bystander.handshake()
        half.send(Hello(5))
        assert await half.receive(1) == [Hello(5, True)]
        await asyncio.gather(mute.closed(), half.closed())
        bystander.send(Keepalive())
        assert await bystander.receive(1) == [Keepalive()]
    causes = [line["reason"] for line in server.log if line["event"] == "session ended by us"]
    assert [reason.partition(":")[0] for reason in causes] == ["handshake timeout"] * 2


async def test_subscribing_and_leaving_a_large_network_all_the_time_holds_up_nobody(server: ServerProcess) -> None:
    async with raw_peer(server) as source, raw_peer(server) as restless, raw_peer(server) as bystander:
        for peer in (source, restless, bystander):
            await peer.handshake()
        source.send(b"".join(add_many(range(100_000))))
        source.send(Keepalive())
        await source.receive(1, within=60)
        restless.send((wire.encode(Subscribe(VNI)) + wire.encode(Unsubscribe(VNI))) * 10_000)
        for _ in range(5):
            bystander.send(Keepalive())
            assert await bystander.receive(1, within=AT_ONCE_SECONDS) == [Keepalive()]
        restless.send(Subscribe(VNI))
        restless.send(Keepalive())
        await restless.receive(20_000, within=30)


async def test_a_route_that_flaps_all_the_time_holds_up_nobody(server: ServerProcess) -> None:
    async with AsyncExitStack() as stack:
        flapping, bystander, *others = [await stack.enter_async_context(raw_peer(server)) for _ in range(52)]
        for peer in (flapping, bystander, *others):
            await peer.handshake()
        for peer in others:
            peer.send(Subscribe(VNI))
        turn = add(1) + wire.encode(Subscribe(Vni(7))) + wire.removal(add(1))
        flapping.send(turn * 20_000 + add(2))
        for _ in range(5):
            bystander.send(Keepalive())
            assert await bystander.receive(1, within=AT_ONCE_SECONDS) == [Keepalive()]
        for peer in others:
            while Update(False, VNI, add(2)) not in await peer.receive(1):
                pass


async def test_memory_returns_after_peers_that_did_their_worst(make_server: Make) -> None:
    server = await make_server("--grace", "0")
    async with raw_peer(server) as bystander:
        await bystander.handshake()
        for _ in range(2):  # the first round makes room in the interpreter's own pools
            async with raw_peer(server) as flood, raw_peer(server) as stuck:
                await flood.handshake()
                await stuck.handshake()
                stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
                stuck.send(Subscribe(VNI))
                flood.send(b"".join(add_many(range(100_000))))
                flood.send(Keepalive())
                await flood.receive(1, within=60)
                before = resident(server)
                for _ in range(5):
                    for number in range(0, 100_000, 20_000):
                        frames = add_many(range(number, number + 20_000))
                        flood.send(removals(frames) + b"".join(frames))
                        flood.send(Keepalive())
                        await flood.receive(1, within=60)
                assert resident(server) < before + 40 * MEBIBYTE, "a peer that doesn't read holds what changed, not all"
        await eventually(lambda: len([line for line in server.log if line["event"] == "session ended"]) >= 4)
        base = resident(server)
        async with raw_peer(server) as half:
            half.send(wire.HEADER.pack(1, 0xFFFF, 5) + bytes(60_000))
            bystander.send(Keepalive())
            await bystander.receive(1)
        assert resident(server) < base + 2 * MEBIBYTE


@st.composite
def nonsense(draw: st.DrawFn) -> bytes:
    """Frames of every kind in any order, some of them broken, cut or followed by noise."""
    good = [wire.encode(Hello(5)), wire.encode(Keepalive()), wire.encode(Subscribe(VNI)), bytes(add(1))]
    pieces = draw(st.lists(st.sampled_from(good) | st.binary(max_size=40), max_size=12))
    stream = bytearray(b"".join(pieces))
    for _ in range(draw(st.integers(0, 3))):
        if stream:
            stream[draw(st.integers(0, len(stream) - 1))] = draw(st.integers(0, 255))
    return bytes(stream)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=nonsense(), seed=st.integers(0, 1000))
async def test_nonsense_ends_its_own_session_at_most(shared_server: ServerProcess, stream: bytes, seed: int) -> None:
    async with raw_peer(shared_server) as fool, raw_peer(shared_server) as bystander:
        await bystander.handshake()
        at, cuts = 0, random.Random(seed)
        while at < len(stream):
            size = cuts.randint(1, 50)
            fool.send(stream[at : at + size])
            at += size
        with suppress(OSError):  # it is closed already
            fool.writer.write_eof()
        await fool.closed()
        bystander.send(Keepalive())
        assert await bystander.receive(1) == [Keepalive()]


async def test_no_answer_to_nonsense_was_an_internal_error(shared_server: ServerProcess) -> None:
    assert not [line for line in shared_server.log if line["event"] == "session failed"]


async def test_a_restarted_server_with_many_peers_takes_nothing_back(server: ServerProcess) -> None:
    counts = {"added": 0, "removed": 0}

    async def session(number: int) -> None:
        async with raw_peer(server) as peer:
            await peer.handshake()
            peer.send(add(number))
            peer.send(Subscribe(VNI))
            splitter = Splitter()
            while data := await peer.reader.read(65536):
                for item in splitter.feed(data):
                    if isinstance(item, Run):
                        counts["removed" if item.removed else "added"] += len(item.routes)

    async def client(number: int) -> None:
        while True:
            try:
                await session(number)
            except (OSError, AssertionError):  # the server is away; the handshake helper says so with an assertion
                await asyncio.sleep(0.2)

    tasks = [asyncio.create_task(client(number)) for number in range(100)]
    await eventually(lambda: counts["added"] == 100 * 99)
    await server.kill()
    await server.start()
    await eventually(lambda: counts["added"] == 2 * 100 * 99)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert counts["removed"] == 0
