"""What a real server process tells Prometheus."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network

import grpc

from protos.metalbond.v1 import metalbond_pb2 as pb
from services.metalbond import wire
from services.metalbond.routes import NextHop, NextHopType, Route, Vni
from services.metalbond.wire import Keepalive, Subscribe
from tests.integration.metalbond.conftest import ServerProcess, free_port, raw_peer
from tests.integration.metalbond.test_server import VNI, add
from tests.integration.metalbond.test_stream import stream
from tests.support.eventually import eventually

ELSEWHERE = Route(Vni(7), ip_network("10.0.0.0/8"), NextHop(ip_address("2001:db8::1")))


async def scrape(port: int) -> dict[str, float]:
    """Samples by name and labels, without the common prefix."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    found = re.findall(r"^ferrite_metalbond_(\S+(?: \S+)*?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


async def test_the_server_counts_what_happens(make_server: Callable[..., Awaitable[ServerProcess]]) -> None:
    port = free_port()
    server = await make_server("--ops-listen", f"127.0.0.1:{port}", "--grace", "60")
    flapping = wire.encode_route(Route(Vni(8), ELSEWHERE.destination, ELSEWHERE.next_hop))
    nat = Route(VNI, ip_network("45.86.6.6/32"), NextHop(ip_address("fc00::1"), NextHopType.NAT, (1024, 2047)))
    async with raw_peer(server) as source, raw_peer(server) as sink, raw_peer(server) as bad:
        await source.handshake()
        await sink.handshake()
        sink.send(Subscribe(VNI))
        sink.send(Keepalive())
        await sink.receive(1)
        source.send(add(1) + add(2) + wire.encode_route(nat) + wire.encode_route(ELSEWHERE))
        await sink.receive(3)
        source.send(wire.removal(add(2)))
        await sink.receive(1)
        bad.send(b"GET / HTTP/1.1\r\n\r\n")
        await bad.closed()
        source.send((flapping + wire.removal(flapping)) * 10)  # nobody follows; all of it was received
        source.send(Keepalive())
        await source.receive(1)

        async def counted() -> bool:
            return (await scrape(port)).get('sessions_ended_total{cause="bad version"}') == 1

        await eventually(counted)
        samples = await scrape(port)
        size = len(add(1)) * 2 + len(wire.encode_route(nat)) + len(wire.encode_route(ELSEWHERE))
        assert samples['bytes_total{direction="in"}'] >= size + len(wire.removal(add(2)))
    expected = {
        'peers{state="established"}': 2,
        'routes{type="standard",vni="100"}': 1,
        'routes{type="nat",vni="100"}': 1,
        'routes{type="standard",vni="7"}': 1,
        "subscriptions": 1,
        "pending_updates": 0,
        'updates_total{direction="in"}': 25,
        'updates_total{direction="out"}': 4,
        "convergence_seconds_count": 4,
        'convergence_seconds_bucket{le="+Inf"}': 4,
    }
    assert {name: samples.get(name) for name in expected} == expected

    async def stale() -> bool:
        found = await scrape(port)
        return found.get('peers{state="stale"}') == 1 and found.get("stale_routes") == 3

    await eventually(stale)


async def test_one_address_has_so_many_sessions_and_no_more(
    make_server: Callable[..., Awaitable[ServerProcess]],
) -> None:
    ops, grpc_address = free_port(), f"127.0.0.1:{free_port()}"
    server = await make_server(
        *("--max-sessions-per-address", "2", "--grpc-listen", grpc_address, "--grpc-insecure"),
        *("--ops-listen", f"127.0.0.1:{ops}"),
    )
    await eventually(lambda: [line for line in server.log if line["event"] == "session ended"])  # of who looked for it
    async with raw_peer(server) as one:
        await one.handshake()
        async with raw_peer(server) as two, raw_peer(server) as three:
            await two.handshake()
            await three.closed()
        async with stream(grpc_address) as other, stream(grpc_address) as another, stream(grpc_address) as returning:
            await other.hello("other")
            await another.hello("another")
            async with stream(grpc_address) as third:
                await third.call.write(pb.SessionRequest(hello=pb.SessionHello(node="third", window=1)))
                assert (await third.refused()).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await returning.hello("other")
        refused = await scrape(ops)
        assert refused['sessions_refused_total{reason="too many sessions of one address"}'] == 2
        assert refused['sessions_refused_total{reason="too many sessions"}'] == 0

        async def has_room() -> bool:
            async with raw_peer(server) as late:
                await late.handshake()
            return True

        await eventually(has_room)
