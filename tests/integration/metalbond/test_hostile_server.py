"""Servers that break the protocol: the session ends with a reason, what was learned is held, the next attempt waits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import grpc
import pytest

from protos.metalbond.v1 import metalbond_pb2 as pb
from protos.metalbond.v1 import metalbond_pb2_grpc as pb_grpc
from services.metalbond import wire
from services.metalbond.client import ConnectionState, MetalbondClient, NextHop, Route, Vni
from services.metalbond.wire import Framer, Hello, Keepalive, Subscribe, encode_route
from tests.support.eventually import eventually

VNI = Vni(100)
GOOD = Route(VNI, ip_network("10.0.0.1/32"), NextHop(ip_address("2001:db8::1")))
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def frame(kind: int, payload: str) -> bytes:
    data = bytes.fromhex(payload)
    return bytes([1, *len(data).to_bytes(2, "big"), kind]) + data


@asynccontextmanager
async def tcp_server(talk: Talk) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "::1", 0)
    async with server:
        yield f"[::1]:{server.sockets[0].getsockname()[1]}"


async def read_until(reader: asyncio.StreamReader, framer: Framer, kind: type[Any]) -> None:
    while data := await reader.read(65536):
        if any(isinstance(wire.decode(*each), kind) for each in framer.feed(data)):
            return


async def establish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    framer = Framer()
    await read_until(reader, framer, Hello)
    writer.write(wire.encode(Hello(1, is_server=True)))
    await read_until(reader, framer, Keepalive)
    writer.write(wire.encode(Keepalive()))
    await read_until(reader, framer, Subscribe)
    writer.write(encode_route(GOOD))


HOP, DESTINATION = "2212 0a10 20010db8000000000000000000000001", "1a08 12040a000002 1820"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(frame(5, f"1064 {DESTINATION}"), "nextHop: missing", id="update without next hop"),
        pytest.param(frame(5, f"1064 {HOP}"), "destination: missing", id="update without destination"),
        pytest.param(
            frame(5, f"1064 1a08 12040a000002 1821 {HOP}"), "prefixLength", id="prefix longer than its family"
        ),
        pytest.param(frame(5, f"10ffffffff0f {DESTINATION} {HOP}"), "vni", id="huge VNI"),
        pytest.param(frame(5, "ffff"), "not an Update", id="no protobuf"),
        pytest.param(frame(9, ""), "unknown frame type", id="unknown type"),
        pytest.param(frame(1, ""), "bad hello", id="empty hello"),
        pytest.param(frame(1, "0805"), "out of place", id="second hello"),
        pytest.param(frame(3, "0864"), "out of place", id="a server that subscribes"),
        pytest.param(b"\x02\x00\x00\x02", "bad version", id="version 2"),
        pytest.param(bytes(range(200, 250)), "bad version", id="garbage"),
        pytest.param(b"\x01\xff\xff\x05" + b"\0" * 10, "dead peer", id="a frame that never ends"),
        pytest.param(b"", "dead peer", id="silence"),
    ],
)
async def test_a_tcp_server_that_breaks_the_protocol(sent: bytes, reason: str) -> None:
    sessions = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sessions
        sessions += 1
        await establish(reader, writer)
        writer.write(sent)

    async with tcp_server(talk) as address, MetalbondClient([address], keepalive=1, grace=60.0) as client:
        client.subscribe(VNI)
        await eventually(lambda: reason in client.servers[address].error)
        assert client.routes(VNI) == [GOOD], "held"
        await eventually(lambda: sessions > 1)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(wire.encode(Keepalive()), id="keepalive before hello"),
        pytest.param(encode_route(GOOD), id="update before hello"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
    ],
)
async def test_a_tcp_server_that_begins_wrongly(sent: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)

    async with tcp_server(talk) as address, MetalbondClient([address], keepalive=1) as client:
        client.subscribe(VNI)
        await eventually(lambda: client.servers[address].error)
        assert client.routes(VNI) == []


@pytest.mark.parametrize("begins", [False, True], ids=["at the beginning", "as soon as it is established"])
async def test_attempts_back_off_from_a_server_that_ends_sessions(begins: bool) -> None:
    attempts: list[float] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(asyncio.get_running_loop().time())
        if begins:
            await establish(reader, writer)
        writer.write(b"\x02\x00\x00\x02")

    async with tcp_server(talk) as address, MetalbondClient([address], keepalive=1) as client:
        client.subscribe(VNI)
        await eventually(lambda: len(attempts) == 4)
    pauses = [after - before for before, after in itertools.pairwise(attempts)]
    assert all(pause >= least for pause, least in zip(pauses, (0.4, 0.8, 1.6), strict=True)), pauses


def hello(**fields: Any) -> pb.SessionResponse:
    return pb.SessionResponse(hello=pb.SessionHello(**({"node": "hostile", "window": 8} | fields)))


def batch(sequence: int, updates: bytes) -> pb.SessionResponse:
    return pb.SessionResponse(batch=pb.RouteBatch(sequence=sequence, updates=updates))


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param([batch(1, b"")], "bad hello", id="no hello"),
        pytest.param([hello(window=0)], "bad hello", id="no window"),
        pytest.param([hello(), hello()], "out of place", id="second hello"),
        pytest.param([hello(), batch(2, encode_route(GOOD))], "bad batch", id="a batch is missing"),
        pytest.param([hello(), batch(1, encode_route(GOOD)[:-1])], "bad batch", id="half a frame"),
        pytest.param([hello(), batch(1, wire.encode(Keepalive()))], "bad batch", id="no update"),
        pytest.param([hello(), batch(1, frame(5, f"1064 {DESTINATION}"))], "nextHop", id="update without next hop"),
        pytest.param([hello(), batch(1, b"\x02" * 50)], "bad version", id="garbage"),
        pytest.param([hello(), pb.SessionResponse(acknowledge=7)], "bad acknowledgement", id="acknowledges the future"),
    ],
)
async def test_a_grpc_server_that_breaks_the_protocol(sent: list[pb.SessionResponse], reason: str) -> None:
    class Hostile(pb_grpc.RouteReflectorServicer):
        async def Session(self, requests: AsyncIterator[pb.SessionRequest], context: Any) -> Any:
            async for _ in requests:
                break
            for response in sent:
                yield response
            await asyncio.sleep(60)

    server = grpc.aio.server()
    port = server.add_insecure_port("[::1]:0")
    pb_grpc.add_RouteReflectorServicer_to_server(Hostile(), server)
    await server.start()
    address = f"[::1]:9/{port}"  # nobody is at the TCP door
    try:
        async with MetalbondClient([address], keepalive=1) as client:
            client.subscribe(VNI)
            await eventually(lambda: reason in client.servers[address].error)
            assert client.servers[address].ends.fallbacks == 0
    finally:
        await server.stop(0)


async def test_a_flood_ends_the_session_and_nothing_else() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await establish(reader, writer)
        for number in range(5000):
            hop = NextHop(ip_address("2001:db8::1"))
            writer.write(encode_route(Route(VNI, ip_network((0x0B000000 + number, 32)), hop)))
        await writer.drain()

    async with tcp_server(talk) as address, MetalbondClient([address], keepalive=1, max_routes=1000) as client:
        client.subscribe(VNI)
        await eventually(lambda: "too many routes" in client.servers[address].error)
        assert len(client.routes(VNI)) == 1000
        assert client.servers[address].state is not ConnectionState.ESTABLISHED
