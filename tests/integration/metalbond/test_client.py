"""The client library against real server processes that come, die and come back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network

import pytest

from services.metalbond.client import (
    Change,
    ConnectionState,
    MetalbondClient,
    NextHop,
    NextHopType,
    Route,
    RouteChange,
    Vni,
)
from tests.integration.metalbond.conftest import ServerProcess, free_port
from tests.support.eventually import eventually

VNI = Vni(100)
SETTLE = 12.0  # seconds; two clients' attempts to come back may lie 10 s apart
MakeServer = Callable[..., Awaitable[ServerProcess]]


def route(number: int = 1, vni: Vni = VNI) -> Route:
    return Route(vni, ip_network((0x0A000000 + number, 32)), NextHop(ip_address(f"2001:db8::{number:x}")))


def client(*servers: ServerProcess | str, settle: float = SETTLE, keepalive: int = 5) -> MetalbondClient:
    addresses = [server if isinstance(server, str) else server.address for server in servers]
    return MetalbondClient(addresses, keepalive=keepalive, grace=60.0, settle=settle)


@asynccontextmanager
async def following(bond: MetalbondClient) -> AsyncIterator[list[RouteChange]]:
    """Everything that the client reports while the context is open; later than its tables have it."""
    seen: list[RouteChange] = []

    async def follow() -> None:
        async for change in bond.changes():
            seen.append(change)

    task = asyncio.create_task(follow())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_two_clients_exchange_routes_of_all_kinds(server: ServerProcess) -> None:
    routes = {
        route(1),
        Route(VNI, ip_network("2001:db8:1::/48"), NextHop(ip_address("2001:db8::1"))),
        Route(VNI, ip_network("0.0.0.0/0"), NextHop(ip_address("2001:db8::1"))),
        Route(VNI, ip_network("45.86.6.6/32"), NextHop(ip_address("2001:db8::2"), NextHopType.NAT, (1024, 2047))),
        Route(VNI, ip_network("45.86.6.6/32"), NextHop(ip_address("2001:db8::2"), NextHopType.NAT, (2048, 4095))),
        Route(VNI, ip_network("10.1.1.1/32"), NextHop(ip_address("2001:db8::3"), NextHopType.LOADBALANCER_TARGET)),
    }
    one, other = client(server), client(server, settle=1.0)
    for what in routes:
        one.announce(what)
        one.announce(what)
    async with one, other, following(other) as seen:
        other.subscribe(VNI)
        assert not other.settled
        await eventually(lambda: set(other.routes(VNI)) == routes)
        await eventually(lambda: other.settled and len(seen) == len(routes))
        for what in routes:
            one.withdraw(what)
            one.withdraw(what)
        await eventually(lambda: other.routes(VNI) == [])
        await eventually(lambda: len(seen) == 2 * len(routes))
        assert one.announced == set()
    for kind, part in ((Change.ADDED, seen[: len(routes)]), (Change.REMOVED, seen[len(routes) :])):
        assert {(change.kind, change.route) for change in part} == {(kind, what) for what in routes}


async def test_a_killed_server_comes_back_and_nobody_loses_a_route(server: ServerProcess) -> None:
    one, other = client(server), client(server)
    async with one, other, following(one) as seen_by_one, following(other) as seen_by_other:
        for number in range(200):
            (one if number % 2 else other).announce(route(number))
        for bond in (one, other):
            bond.subscribe(VNI)
        await eventually(lambda: len(seen_by_one) == len(seen_by_other) == 100)
        await server.kill(signal.SIGKILL)
        await eventually(lambda: one.servers[server.address].state is not ConnectionState.ESTABLISHED)
        one.withdraw(route(1))
        one.announce(route(999))
        assert len(other.routes(VNI)) == 100
        await server.start()
        await eventually(lambda: route(999) in other.routes(VNI))
        await eventually(lambda: RouteChange(Change.REMOVED, route(1)) in seen_by_other, within=60)
        assert seen_by_one == [RouteChange(Change.ADDED, route(number)) for number in range(0, 200, 2)]
        assert [change for change in seen_by_other if change.kind is Change.REMOVED] == [
            RouteChange(Change.REMOVED, route(1))
        ]
        assert len(seen_by_other) == 102


async def test_a_killed_client_s_routes_stay_for_the_grace_time(make_server: MakeServer) -> None:
    server = await make_server("--grace", "6")
    other = client(server)
    async with other, following(other) as seen:
        other.subscribe(VNI)
        async with client(server) as one:
            one.announce(route(1))
            one.announce(route(2))
            await eventually(lambda: len(seen) == 2)
        async with client(server) as again:
            again.announce(route(1))
            await eventually(lambda: other.routes(VNI) == [route(1)] and len(seen) == 3)
            assert [change.route for change in seen if change.kind is Change.REMOVED] == [route(2)]


async def test_losing_one_of_two_servers_withdraws_nothing(make_server: MakeServer) -> None:
    servers = [await make_server("--grace", "0"), await make_server("--grace", "0")]
    one, other = client(*servers), client(*servers, settle=0.0)
    async with one, other, following(other) as seen:
        other.subscribe(VNI)
        one.announce(route(1))
        await other.wait_established(2)
        await eventually(lambda: other.routes(VNI) == [route(1)])
        for server in servers:
            await server.kill()
            await eventually(lambda: len(_established(other)) == 1)
            one.announce(route(2 + servers.index(server)))
            await eventually(lambda: len(other.routes(VNI)) == 2 + servers.index(server))  # noqa: B023
            await server.start()
            await one.wait_established(2)
            await other.wait_established(2)
        one.withdraw(route(1))
        await eventually(lambda: RouteChange(Change.REMOVED, route(1)) in seen)
        assert [change for change in seen if change.kind is Change.REMOVED] == [RouteChange(Change.REMOVED, route(1))]


async def test_a_server_that_is_away_blocks_nothing(server: ServerProcess) -> None:
    away = f"[::1]:{free_port()}"
    unknown = "no-such-host.invalid:4711"
    one, other = client(away, server, unknown), client(server)
    async with one, other:
        one.announce(route(1))
        other.subscribe(VNI)
        await eventually(lambda: other.routes(VNI) == [route(1)])
        await eventually(lambda: one.servers[away].error and one.servers[unknown].error)
        assert one.servers[server.address].state is ConnectionState.ESTABLISHED


async def test_unsubscribing_forgets_what_was_learned_and_keeps_what_is_announced(server: ServerProcess) -> None:
    one, other = client(server), client(server)
    async with one, other, following(one) as seen:
        for bond, number in ((one, 1), (other, 2)):
            bond.announce(route(number))
            bond.subscribe(VNI)
        await eventually(lambda: one.routes(VNI) == [route(2)] and other.routes(VNI) == [route(1)])
        await eventually(lambda: len(seen) == 1)  # else it would come and go unheard
        one.unsubscribe(VNI)
        assert one.routes(VNI) == []
        await eventually(lambda: len(seen) == 2)
        one.subscribe(VNI)
        await eventually(lambda: one.routes(VNI) == [route(2)])
        assert other.routes(VNI) == [route(1)]


async def test_a_stopped_server_is_noticed(server: ServerProcess) -> None:
    async with client(server, keepalive=1) as one:
        await asyncio.wait_for(one.wait_established(), 30)
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            await eventually(lambda: "dead peer" in one.servers[server.address].error)
        finally:
            server.process.send_signal(signal.SIGCONT)
        await asyncio.wait_for(one.wait_established(), 30)


async def test_twenty_thousand_routes_both_ways(server: ServerProcess) -> None:
    one, late = client(server), client(server)
    routes = {route(number) for number in range(20_000)}
    for what in routes:
        one.announce(what)
    async with one:
        await one.wait_established()
        late.subscribe(VNI)
        async with late, following(late) as seen:
            await eventually(lambda: len(seen) == len(routes), within=30)
            assert {change.route for change in seen} == routes


@pytest.mark.parametrize("address", ["[::1]:x", "[::1:4711", "host:70000"])
def test_a_wrong_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        MetalbondClient([address])


def _established(bond: MetalbondClient) -> list[str]:
    return [name for name, status in bond.servers.items() if status.state is ConnectionState.ESTABLISHED]
