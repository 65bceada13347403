"""The status page of a real server and a real client."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from services.metalbond.client import MetalbondClient, NextHop, NextHopType, Route, Vni
from services.metalbond.wire import Keepalive
from tests.integration.metalbond.conftest import ServerProcess, free_port, raw_peer
from tests.integration.metalbond.test_server import add_many
from tests.support.eventually import eventually

MakeServer = Callable[..., Awaitable[ServerProcess]]

ROUTES = [
    Route(Vni(100), ip_network("10.0.0.1/32"), NextHop(ip_address("2001:db8::1"))),
    Route(Vni(100), ip_network("10.0.0.1/32"), NextHop(ip_address("2001:db8::2"), NextHopType.LOADBALANCER_TARGET)),
    Route(Vni(100), ip_network("45.86.6.6/32"), NextHop(ip_address("2001:db8::3"), NextHopType.NAT, (1024, 2047))),
    Route(Vni(200), ip_network("2001:db8:1::/48"), NextHop(ip_address("2001:db8::1"))),
]
HOP = {"TargetAddress": "2001:db8::1", "TargetVNI": 0, "Type": 0, "NATPortRangeFrom": 0, "NATPortRangeTo": 0}
VNET: dict[str, Any] = {
    "100": {
        '{"IPVersion":4,"Prefix":"10.0.0.1/32"}': [HOP, HOP | {"TargetAddress": "2001:db8::2", "Type": 2}],
        '{"IPVersion":4,"Prefix":"45.86.6.6/32"}': [
            HOP | {"TargetAddress": "2001:db8::3", "Type": 1, "NATPortRangeFrom": 1024, "NATPortRangeTo": 2047}
        ],
    },
    "200": {'{"IPVersion":6,"Prefix":"2001:db8:1::/48"}': [HOP]},
}


@pytest.fixture
async def pages(make_server: MakeServer, tmp_path: Path) -> AsyncIterator[list[str]]:
    """Base URLs of a server and of a client that follows both VNIs, when both show all routes."""
    urls = [f"http://[::1]:{free_port()}" for _ in range(2)]
    server = await make_server("--http", urls[0].removeprefix("http://"))
    follower = _follower(server.address, urls[1].removeprefix("http://"), tmp_path / "client.log")
    try:
        async with MetalbondClient([server.address]) as announcer:
            for route in ROUTES:
                announcer.announce(route)
            for url in urls:
                await eventually(lambda: _complete(url))  # noqa: B023
            yield urls
    finally:
        follower.kill()
        await asyncio.to_thread(follower.wait)


def _follower(server: str, http: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "services.metalbond", "client", "--server", server]
    return subprocess.Popen([*command, "--subscribe", "100,200", "--http", http], stderr=log.open("wb"))


async def _get(url: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, answer.content_type, await answer.text()


async def _complete(url: str) -> bool:
    return bool(json.loads((await _get(f"{url}/routes.json"))[2])["vnet"] == VNET)


async def test_the_original_s_shapes_and_the_live_table(pages: list[str]) -> None:
    for url in pages:
        status, kind, text = await _get(f"{url}/routes.json")
        tree = json.loads(text)
        assert (status, kind, tree["vnet"]) == (200, "application/json", VNET)
        assert tree.keys() == {"date", "vnet", "metalbondVersion"}
        assert len(tree["date"]) == len("2026-01-01 00:00:00")
        assert json.loads((await _get(f"{url}/routes.json?vni=200"))[2])["vnet"] == {"200": VNET["200"]}

        status, kind, text = await _get(f"{url}/routes.yaml")
        tree = yaml.safe_load(text)
        lowered = {
            int(vni): {
                destination: [{name.lower(): value for name, value in hop.items()} for hop in hops]
                for destination, hops in destinations.items()
            }
            for vni, destinations in VNET.items()
        }
        assert (status, kind, tree["vnet"]) == (200, "text/yaml", lowered)
        assert tree.keys() == {"date", "vnet", "metalbondversion"}

        live = json.loads((await _get(f"{url}/status.json?vni=100&text=45.86"))[2])
        assert live["vnis"] == {"100": 3, "200": 1}
        assert live["routes"] == [{"vni": 100, "destination": "45.86.6.6/32", "hop": str(ROUTES[2].next_hop)}]
        assert {peer["state"] for peer in live["peers"]} == {"established"}

        status, kind, text = await _get(f"{url}/")
        assert (status, kind) == (200, "text/html")
        assert "/status.json" in text


async def test_wrong_queries_and_an_empty_table(make_server: MakeServer) -> None:
    url = f"http://[::1]:{free_port()}"
    await make_server("--http", url.removeprefix("http://"))
    await eventually(lambda: _get(url))
    for query in ("vni=x", "vni=16777216", "vni=-1"):
        for path in ("routes.json", "routes.yaml", "status.json"):
            status, _, text = await _get(f"{url}/{path}?{query}")
            assert (status, text[:4]) == (400, "vni:")
    assert json.loads((await _get(f"{url}/routes.json"))[2])["vnet"] == {}
    assert yaml.safe_load((await _get(f"{url}/routes.yaml"))[2])["vnet"] == {}


async def test_readers_that_do_not_read_are_few(make_server: MakeServer) -> None:
    port = free_port()
    server = await make_server("--http", f"[::1]:{port}")
    stuck: list[asyncio.StreamWriter] = []
    async with raw_peer(server) as source:
        await source.handshake()
        source.send(b"".join(add_many(range(60_000))))
        source.send(Keepalive())
        await source.receive(1, within=60)
        for _ in range(4):
            _, writer = await asyncio.open_connection("::1", port)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /routes.json HTTP/1.1\r\nHost: here\r\n\r\n")
            stuck.append(writer)

        async def status() -> int:
            async with aiohttp.ClientSession() as session, session.get(f"http://[::1]:{port}/routes.json") as answer:
                return answer.status

        await eventually(lambda: _is(status, 503))
        source.send(Keepalive())
        await source.receive(1, within=10)
        for writer in stuck:
            writer.transport.abort()
        await eventually(lambda: _is(status, 200))


async def _is(ask: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await ask() == wanted
