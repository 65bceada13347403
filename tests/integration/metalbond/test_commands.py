"""`ferrite metalbond routes|peers|monitor` and wrong command lines, as processes."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network

import pytest

from services.metalbond.client import MetalbondClient, NextHop, NextHopType, Route, Vni
from tests.integration.metalbond.conftest import ServerProcess
from tests.support.eventually import eventually

VNI = Vni(100)


def route(number: int) -> Route:
    return Route(VNI, ip_network((0x0A000000 + number, 32)), NextHop(ip_address("2001:db8::1")))


NAT = Route(VNI, ip_network("45.86.6.6/32"), NextHop(ip_address("2001:db8::2"), NextHopType.NAT, (1024, 2047)))


@asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    # Whoever runs the tests in the background of a shell has them, and all that they start, ignore SIGINT.
    process = await asyncio.create_subprocess_exec(
        *("env", "--default-signal=INT", sys.executable, "-m", "services.metalbond", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def output(*arguments: str) -> tuple[int, str, str]:
    async with command(*arguments) as process, asyncio.timeout(120):
        out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


@asynccontextmanager
async def announcing(server: ServerProcess, *routes: Route) -> AsyncIterator[MetalbondClient]:
    follower = MetalbondClient([server.grpc_address], node="follower", hold=0)
    follower.subscribe(VNI)
    async with MetalbondClient([server.grpc_address], node="announcer", hold=0) as client, follower:
        for each in routes:
            client.announce(each)
        await eventually(lambda: follower.count(VNI) == len(routes))
        yield client


async def test_routes_and_peers(server: ServerProcess) -> None:
    address = ("--address", server.grpc_address)
    async with announcing(server, route(1), NAT):
        code, out, _ = await output("routes", *address)
        [head, first, second] = out.splitlines()
        assert (code, head.split()[:2]) == (0, ["VNI", "DESTINATION"])
        assert first.split()[:4] == ["100", "10.0.0.1/32", "2001:db8::1", "STANDARD"]
        assert second.split()[:5] == ["100", "45.86.6.6/32", "2001:db8::2", "NAT", "1024-2047"]
        assert "announcer" in first
        _, out, _ = await output("routes", "-o", "json", "--vni", "100", *address)
        [_, shown] = json.loads(out)
        assert shown["nextHop"] == {
            "address": "2001:db8::2",
            "type": "NAT",
            "targetVni": 0,
            "natPortFrom": 1024,
            "natPortTo": 2047,
        }
        assert json.loads((await output("routes", "-o", "json", "--vni", "101", *address))[1]) == []
        _, out, _ = await output("peers", *address)
        assert [line.split()[0] for line in out.splitlines()] == ["NAME", "announcer", "follower"]
        _, out, _ = await output("peers", "-o", "json", *address)
        assert [peer["state"] for peer in json.loads(out)] == ["PEER_STATE_ESTABLISHED"] * 2


async def test_twenty_thousand_routes_are_listed(server: ServerProcess) -> None:
    routes = [route(number) for number in range(20_000)]
    async with announcing(server, *routes):
        loop = asyncio.get_running_loop()
        began = loop.time()
        code, out, _ = await output("routes", "--address", server.grpc_address)
        assert (code, out.count("\n")) == (0, 20_001)
        _, out, _ = await output("routes", "-o", "json", "--address", server.grpc_address)
        assert len(json.loads(out)) == 20_000
        assert loop.time() - began < 60


async def test_monitor_follows(server: ServerProcess) -> None:
    async with announcing(server, route(1)) as client:
        for door in (server.address, server.grpc_address):
            async with command("monitor", "--server", door, "-o", "json", "100") as monitor, asyncio.timeout(30):
                assert monitor.stdout is not None
                assert json.loads(await monitor.stdout.readline())["destination"] == "10.0.0.1/32"
                client.announce(route(2))
                assert json.loads(await monitor.stdout.readline())["destination"] == "10.0.0.2/32"
                client.withdraw(route(2))
                assert json.loads(await monitor.stdout.readline())["change"] == "removed"
                monitor.send_signal(signal.SIGINT)
                assert await monitor.wait() in (0, 130)


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        pytest.param(["routes", "--address", "unix:/nowhere.sock"], 1, "UNAVAILABLE", id="nobody there"),
        pytest.param(["routes", "--vni", "16777216"], 2, "outside of", id="huge VNI"),
        pytest.param(["peers", "--tls-ca", "x"], 2, "go together", id="half of TLS"),
        pytest.param(["monitor", "x"], 2, "not a number", id="no VNI"),
        pytest.param(["client"], 2, "--server: at least one", id="client without servers"),
        pytest.param(["client", "--server", "h:1/2"], 2, "needs --tls-ca", id="gRPC without TLS"),
        pytest.param(["client", "--server", "h:1", "--install-routes", "1#1"], 2, "--tun", id="no device"),
        pytest.param(["client", "--server", "h", "--tls-ca=a", "--tls-cert=b", "--tls-key=c"], 2, "'b'", id="no file"),
        pytest.param(["nonsense"], 2, "No such command", id="unknown"),
    ],
)
async def test_wrong_command_lines(arguments: list[str], code: int, reason: str) -> None:
    ended, _, error = await output(*arguments)
    assert ended == code, error
    assert reason in " ".join(error.split())
