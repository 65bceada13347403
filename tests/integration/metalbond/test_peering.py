"""Several reflector processes that pass on each other's routes."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from services.metalbond import wire
from services.metalbond.client import MetalbondClient
from services.metalbond.wire import Subscribe, Update
from tests.integration.metalbond.conftest import RawPeer, ServerProcess, raw_peer
from tests.integration.metalbond.test_server import VNI, add
from tests.support.eventually import eventually

Make = Callable[..., Awaitable[ServerProcess]]


@pytest.fixture(params=["tcp", "grpc"])
async def mesh(make_server: Make, request: pytest.FixtureRequest) -> list[ServerProcess]:
    """Three reflectors, each of which names the other two."""
    servers = [await make_server("--grace", "15", "--node", f"reflector-{number}") for number in range(3)]
    for server in servers:
        others = [other for other in servers if other is not server]
        for other in others:
            server.flags += ["--peer", other.address if request.param == "tcp" else other.grpc_address]
        await server.kill(signal.SIGTERM)
        await server.start()
    return servers


@pytest.fixture
async def peers(mesh: list[ServerProcess]) -> AsyncIterator[list[RawPeer]]:
    """An established peer of each."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(raw_peer(server)) for server in mesh]
        for peer in found:
            await peer.handshake()
        yield found


async def test_a_route_reaches_the_peers_of_all_reflectors_once(peers: list[RawPeer]) -> None:
    for peer in peers:
        peer.send(Subscribe(VNI))
    peers[0].send(add(1) + add(2))
    for peer in peers[1:]:
        received = await peer.receive(2, within=30)
        assert {update.route for update in received if isinstance(update, Update)} == {add(1), add(2)}
    peers[0].send(wire.removal(add(1)))
    for peer in peers[1:]:
        assert await peer.receive(1, within=30) == [Update(True, VNI, add(1))]
    peers[1].send(add(3))
    for peer in (peers[0], peers[2]):
        assert await peer.receive(1, within=30) == [Update(False, VNI, add(3))]
    for peer in peers:
        peer.send(wire.Keepalive())
        assert await peer.receive(1) == [wire.Keepalive()], "nothing came back around"


async def test_losing_a_reflector_takes_nothing_back_that_another_has(mesh: list[ServerProcess]) -> None:
    route = wire.decode_route(add(7))
    async with (
        MetalbondClient([mesh[0].address, mesh[1].address], node="announcer") as announcer,
        raw_peer(mesh[2]) as listener,
    ):
        announcer.announce(route)
        await announcer.wait_established(2)
        await listener.handshake()
        listener.send(Subscribe(VNI))
        assert await listener.receive(1, within=30) == [Update(False, VNI, add(7))]
        await mesh[0].kill()
        announcer.announce(wire.decode_route(add(8)))
        assert await listener.receive(1, within=30) == [Update(False, VNI, add(8))]
        await mesh[0].start()
        listener.send(wire.Keepalive())
        assert await listener.receive(1) == [wire.Keepalive()]
        announcer.withdraw(route)
        assert await listener.receive(1, within=30) == [Update(True, VNI, add(7))]


async def test_a_vni_that_nobody_follows_is_not_fetched(mesh: list[ServerProcess], peers: list[RawPeer]) -> None:
    peers[0].send(Subscribe(VNI))
    peers[1].send(add(1))
    assert await peers[0].receive(1, within=30) == [Update(False, VNI, add(1))]
    peers[0].send(wire.Unsubscribe(VNI))
    peers[1].send(wire.removal(add(1)))

    async def forgotten() -> bool:
        peers[0].send(Subscribe(VNI))
        peers[0].send(wire.Keepalive())
        found = await peers[0].receive(1)
        peers[0].send(wire.Unsubscribe(VNI))
        return found == [wire.Keepalive()]

    await eventually(forgotten)
