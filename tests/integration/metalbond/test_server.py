"""The server process against peers that speak frames by hand, well-behaved and not."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from services.metalbond import wire
from services.metalbond.routes import NextHop, Route, Vni
from services.metalbond.wire import RouteFrame, Subscribe, Update
from tests.integration.metalbond.conftest import RawPeer, ServerProcess, raw_peer
from tests.support.eventually import eventually

VNI = Vni(100)
HOSTILE = json.loads((Path(__file__).parents[2] / "vectors" / "metalbond.json").read_text())["hostile"]


def add(number: int = 1) -> RouteFrame:
    return wire.encode_route(Route(VNI, ip_network((0x0A000000 + number, 32)), NextHop(ip_address("2001:db8::1"))))


def add_many(numbers: range) -> list[RouteFrame]:
    """As `add` for each, without encoding each."""
    sample = add(0)
    at = sample.index(bytes([10, 0, 0, 0]))
    return [RouteFrame(sample[:at] + (0x0A000000 + number).to_bytes(4, "big") + sample[at + 4 :]) for number in numbers]


async def test_frames_on_the_wire_are_the_original_s(server: ServerProcess) -> None:
    async with raw_peer(server) as peer:
        for said, answer in (
            ("01000201 0805", "01000401 08051001"),
            ("01000002", "01000002"),
            ("01000002", "01000002"),
        ):
            peer.send(bytes.fromhex(said))
            assert await peer.reader.readexactly(len(bytes.fromhex(answer))) == bytes.fromhex(answer)


async def test_routes_go_to_subscribers_and_not_back(server: ServerProcess) -> None:
    async with raw_peer(server) as one, raw_peer(server) as other:
        await one.handshake()
        await other.handshake()
        for peer in (one, other):
            peer.send(Subscribe(VNI))
            peer.send(Subscribe(VNI))
        one.send(add(1))
        one.send(add(1))
        assert await other.receive(1) == [Update(False, VNI, add(1))]
        other.send(add(2))
        assert await one.receive(1) == [Update(False, VNI, add(2))]
        one.send(wire.removal(add(7)))
        one.send(wire.removal(add(1)))
        assert await other.receive(1) == [Update(True, VNI, add(1))]


async def test_split_and_joined_frames_are_put_together(server: ServerProcess) -> None:
    async with raw_peer(server) as one, raw_peer(server) as other:
        await one.handshake()
        await other.handshake()
        other.send(Subscribe(VNI))
        stream = b"".join(add(number) for number in range(20))
        for start in range(0, len(stream), 7):
            one.send(stream[start : start + 7])
            await one.writer.drain()
            await asyncio.sleep(0)
        assert {update.route for update in await other.receive(20) if isinstance(update, Update)} == {
            add(number) for number in range(20)
        }


@pytest.mark.parametrize("greeted", [pytest.param(False, id="first thing"), pytest.param(True, id="when established")])
@pytest.mark.parametrize(
    ("data", "cause"),
    [pytest.param(bytes.fromhex(vector["hex"]), vector["cause"], id=vector["name"]) for vector in HOSTILE],
)
async def test_bad_frames_end_only_their_session(
    shared_server: ServerProcess, data: bytes, cause: str, greeted: bool
) -> None:
    async with raw_peer(shared_server) as bystander, raw_peer(shared_server) as hostile:
        await bystander.handshake()
        if greeted:
            await hostile.handshake()
        name = "[{}]:{}".format(*hostile.writer.get_extra_info("sockname")[:2])
        hostile.send(data)
        await hostile.closed()
        await eventually(lambda: _reason(shared_server, name, cause))
        await _still_serves(bystander)


async def test_silence_ends_only_its_session(make_server: Callable[..., Awaitable[ServerProcess]]) -> None:
    server = await make_server("--keepalive", "1")
    async with raw_peer(server) as silent, raw_peer(server) as alive:
        silent.send(wire.encode(wire.Hello(1)) + wire.encode(wire.Keepalive()))
        alive.send(wire.Hello(1))
        await alive.receive(1)
        closing = asyncio.create_task(silent.closed())
        while not closing.done():
            await _still_serves(alive)
            await asyncio.sleep(0.2)
        await closing
        await eventually(lambda: [line for line in server.log if "dead peer" in line.get("reason", "")])


async def test_a_peer_that_never_reads_harms_nobody(server: ServerProcess) -> None:
    async with raw_peer(server) as stuck, raw_peer(server) as reader, raw_peer(server) as source:
        for peer in (stuck, reader, source):
            await peer.handshake()
        stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for peer in (stuck, reader):
            peer.send(Subscribe(VNI))
        frames = [add(number) for number in range(5000)]
        source.send(b"".join(frames))
        for _ in range(3):
            received = await reader.receive(5000, within=30)
            assert {update.route for update in received if isinstance(update, Update)} == set(frames)
            source.send(b"".join(map(wire.removal, frames)))
            await reader.receive(5000, within=30)
            source.send(b"".join(frames))


async def test_a_flood_of_questions_whose_answers_nobody_reads_ends_only_its_session(server: ServerProcess) -> None:
    async with raw_peer(server) as flood, raw_peer(server) as bystander:
        await flood.handshake()
        await bystander.handshake()
        flood.writer.transport.pause_reading()  # type: ignore[attr-defined]
        flood.send(wire.encode(wire.Keepalive()) * 100_000)
        await eventually(lambda: [line for line in server.log if "does not read" in line.get("reason", "")])
        await _still_serves(bystander)


async def test_twenty_thousand_routes_at_once_in_segments_of_whole_frames(server: ServerProcess) -> None:
    async with raw_peer(server) as source, raw_peer(server) as late:
        await source.handshake()
        source.send(b"".join(add(number) for number in range(20_000)))
        await late.handshake()
        late.send(Subscribe(VNI))
        received = await late.receive(20_000, within=30)
        assert {update.route for update in received if isinstance(update, Update)} == {
            add(number) for number in range(20_000)
        }


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        pytest.param(["--keepalive", "x"], "--keepalive: Input should be a valid integer", id="keepalive"),
        pytest.param(["--grace", "-1"], "--grace: Input should be greater than or equal to 0", id="grace"),
        pytest.param(["--listen", "[::1]:70000"], "'70000' is not a port", id="port"),
        pytest.param(["--grpc-listen", "127.0.0.1:0"], "needs --tls-ca", id="grpc without TLS"),
        pytest.param(["--tls-ca", "/nowhere"], "go together", id="half of the TLS files"),
        pytest.param(["--listen", "[2001:db8::99]:4711"], "Cannot assign requested address", id="a foreign address"),
    ],
)
async def test_a_wrong_setting_is_named(flags: list[str], said: str) -> None:
    command = (sys.executable, "-m", "services.metalbond", "server", "--grpc-listen", "", *flags)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode in (1, 2)
    assert said in errors.decode()


async def test_sigterm_is_an_orderly_end(server: ServerProcess) -> None:
    async with raw_peer(server) as peer:
        await peer.handshake()
        assert await server.kill(signal.SIGTERM) == 0
        await peer.closed()
    assert "process ended" in [line["event"] for line in server.log]


def _reason(server: ServerProcess, peer: str, cause: str) -> list[dict[str, Any]]:
    ended = [line for line in server.log if line["event"] == "session ended by us" and line["peer"] == peer]
    return [line for line in ended if line["reason"].startswith((cause, "out of place"))]


async def _still_serves(peer: RawPeer) -> None:
    peer.send(wire.Keepalive())
    assert await peer.receive(1) == [wire.Keepalive()]
