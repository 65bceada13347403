"""Client processes that are killed without a word, stand still, and come back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from services.metalbond.client import Change, MetalbondClient, NextHop, Route, Vni
from tests.integration.metalbond.conftest import ServerProcess
from tests.support.eventually import eventually

VNI = Vni(100)
ROUTES = [Route(VNI, ip_network(f"10.0.0.{number}/32"), NextHop(ip_address("fc00::1"))) for number in (1, 2)]
DEAD_SECONDS = 60.0  # by gRPC a silent peer is found after up to 12.5 s
HOLD_SECONDS = 8  # a process takes some to begin
DOORS = pytest.mark.parametrize("door", ["tcp", "grpc"])


@pytest.fixture
async def server(make_server: Callable[..., Awaitable[ServerProcess]]) -> ServerProcess:
    return await make_server("--grace", str(HOLD_SECONDS))


def begin(server: ServerProcess, door: str, log: Path) -> subprocess.Popen[bytes]:
    address = server.address if door == "tcp" else server.grpc_address
    command = [sys.executable, "-m", "services.metalbond", "client", "--server", address, "--keepalive", "1"]
    announced = ",".join(f"{VNI}#{route.destination}#{route.next_hop.address}" for route in ROUTES)
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, "--announce", announced, "--hold", str(HOLD_SECONDS), "--node", "it"], stderr=output
        )


@asynccontextmanager
async def follower(server: ServerProcess) -> AsyncIterator[tuple[MetalbondClient, list[Route]]]:
    """A client that follows the network, and the routes that it lost sight of."""
    gone: list[Route] = []

    async def follow() -> None:
        async for change in client.changes():
            if change.kind is Change.REMOVED:
                gone.append(change.route)

    async with MetalbondClient([server.grpc_address], node="follower") as client:
        client.subscribe(VNI)
        following = asyncio.create_task(follow())
        yield client, gone
        following.cancel()


@DOORS
async def test_a_killed_client_that_returns_in_time_is_not_missed(
    server: ServerProcess, door: str, tmp_path: Path
) -> None:
    processes = [begin(server, door, tmp_path / "log")]
    try:
        async with follower(server) as (other, gone):
            await eventually(lambda: set(other.routes(VNI)) == set(ROUTES))
            processes[0].kill()
            await eventually(lambda: [line for line in server.log if line.get("stale_routes") == 2])
            lost_at = asyncio.get_running_loop().time()
            processes.append(begin(server, door, tmp_path / "log"))
            await eventually(lambda: (tmp_path / "log").read_text().count("session established") == 2)
            # Longer than its routes would have been kept.
            await asyncio.sleep(lost_at + HOLD_SECONDS + 1.0 - asyncio.get_running_loop().time())
            assert (set(other.routes(VNI)), gone) == (set(ROUTES), [])
            processes[1].kill()
            await eventually(lambda: not other.routes(VNI))
    finally:
        for process in processes:
            process.kill()
            process.wait()


@DOORS
async def test_a_client_that_stands_still_is_found_dead_and_comes_back(
    server: ServerProcess, door: str, tmp_path: Path
) -> None:
    process = begin(server, door, tmp_path / "log")
    try:
        async with follower(server) as (other, gone):
            await eventually(lambda: set(other.routes(VNI)) == set(ROUTES))
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(1.0)
            assert gone == []
            await eventually(lambda: not other.routes(VNI), within=DEAD_SECONDS)
            process.send_signal(signal.SIGCONT)
            await eventually(lambda: set(other.routes(VNI)) == set(ROUTES), within=DEAD_SECONDS)
    finally:
        process.kill()
        process.wait()
