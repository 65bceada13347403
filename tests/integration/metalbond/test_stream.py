"""Sessions at the gRPC door of a real server process, spoken by hand, beside peers of the TCP door."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from ferrite.dev.certificates import Authority, Identity
from protos.metalbond.v1 import metalbond_pb2 as pb
from protos.metalbond.v1 import metalbond_pb2_grpc as pb_grpc
from services.common.grpc_client import grpc_channel
from services.common.tls import TlsFiles
from services.metalbond import wire
from services.metalbond.routes import Route, Vni
from services.metalbond.runs import Run, Splitter
from services.metalbond.wire import RouteFrame, Subscribe, Update
from tests.integration.metalbond.conftest import STEP_SECONDS, ServerProcess, free_port, raw_peer
from tests.integration.metalbond.test_server import VNI, add
from tests.support.eventually import eventually


@dataclass
class Stream:
    """One session: what it was told, and what else was said."""

    call: Any
    told: set[RouteFrame] = field(default_factory=set)
    removed: int = 0
    batches: int = 0
    ends: list[int] = field(default_factory=list)
    acknowledged: int = 0
    refusals: list[pb.Refusal] = field(default_factory=list)
    acknowledging: bool = True
    _sent: int = 0

    async def hello(self, node: str = "one", hold: int = 30, window: int = 8, *, reflector: bool = False) -> None:
        hello = pb.SessionHello(node=node, hold_seconds=hold, window=window, reflector=reflector)
        await self.call.write(pb.SessionRequest(hello=hello))
        assert (await self.call.read()).hello.window >= 1

    async def send(self, *frames: bytes) -> None:
        self._sent += 1
        batch = pb.RouteBatch(sequence=self._sent, updates=b"".join(frames))
        await self.call.write(pb.SessionRequest(batch=batch))

    async def follow(self, vni: int = VNI) -> None:
        await self.call.write(pb.SessionRequest(subscribe=vni))

    async def read_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(STEP_SECONDS):
            while not condition():
                await self._take(await self.call.read())

    async def _take(self, response: pb.SessionResponse) -> None:
        match response.WhichOneof("frame"):
            case "batch":
                assert response.batch.sequence == self.batches + 1
                self.batches += 1
                for run in Splitter().feed(response.batch.updates):
                    assert isinstance(run, Run)
                    self.removed += len(run.routes) if run.removed else 0
                    (self.told.difference_update if run.removed else self.told.update)(run.routes)
                if self.acknowledging:
                    await self.call.write(pb.SessionRequest(acknowledge=self.batches))
            case "table_end":
                self.ends.append(response.table_end.vni)
            case "acknowledge":
                self.acknowledged = response.acknowledge
            case "refusal":
                self.refusals.append(response.refusal)

    async def refused(self) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(self._read_on(), STEP_SECONDS)
        return ended.value

    async def _read_on(self) -> None:
        while await self.call.read() is not grpc.aio.EOF:
            pass


@asynccontextmanager
async def stream(address: str, tls: TlsFiles | None = None) -> AsyncIterator[Stream]:
    async with grpc_channel(address, tls=tls) as channel:
        async with asyncio.timeout(STEP_SECONDS):
            await channel.channel_ready()
        call = pb_grpc.RouteReflectorStub(channel).Session()
        yield Stream(call)
        call.cancel()


async def test_peers_of_both_doors_share_a_table(server: ServerProcess) -> None:
    async with stream(server.grpc_address) as one, raw_peer(server) as other:
        await one.hello()
        await other.handshake()
        await one.send(add(1), add(2))
        other.send(add(3))
        other.send(Subscribe(VNI))
        received = await other.receive(2)
        assert {update.route for update in received if isinstance(update, Update)} == {add(1), add(2)}
        await one.follow()
        await one.read_until(lambda: bool(one.ends))
        assert (one.told, one.ends, one.acknowledged) == ({add(3)}, [VNI], 1)
        await one.send(wire.removal(add(1)))
        assert await other.receive(1) == [Update(True, VNI, add(1))]
        other.send(wire.removal(add(3)))
        await one.read_until(lambda: not one.told)


async def test_no_more_than_the_window_is_left_unacknowledged(server: ServerProcess) -> None:
    async with stream(server.grpc_address) as one, raw_peer(server) as other:
        await one.hello(window=2)
        one.acknowledging = False
        await other.handshake()
        await one.follow()
        await one.read_until(lambda: bool(one.ends))
        for number in (1, 2):
            other.send(add(number))
            await one.read_until(lambda number=number: one.batches == number)  # type: ignore[misc]
        for number in range(3, 1000):
            other.send(add(number))
        other.send(wire.Keepalive())
        await other.receive(1)
        reading = asyncio.create_task(one.read_until(lambda: one.batches == 3))
        done, _ = await asyncio.wait([reading], timeout=0.5)
        assert not done, "a third batch came unacknowledged"
        await one.call.write(pb.SessionRequest(acknowledge=2))
        await reading
        assert len(one.told) == 999, "what waited was told at once"


async def test_a_refresh_tells_the_table_again(server: ServerProcess) -> None:
    async with stream(server.grpc_address) as one, raw_peer(server) as other:
        await one.hello()
        await other.handshake()
        other.send(add(1) + add(2))
        await one.follow()
        await one.read_until(lambda: one.told == {add(1), add(2)})
        one.told.clear()
        await one.call.write(pb.SessionRequest(refresh=VNI))
        await one.read_until(lambda: one.ends == [VNI, VNI])
        assert one.told == {add(1), add(2)}


async def test_routes_are_held_while_their_peer_restarts(server: ServerProcess) -> None:
    async with stream(server.grpc_address) as other:
        await other.hello("other")
        await other.follow()
        async with stream(server.grpc_address) as one:
            await one.hello("one", hold=60)
            await one.send(add(1), add(2))
            await other.read_until(lambda: len(other.told) == 2)
        await eventually(lambda: [line for line in server.log if line["event"] == "session ended"])
        async with stream(server.grpc_address) as again:
            await again.hello("one", hold=60)
            await again.send(add(2), add(3))
            await again.follow()
            await again.read_until(lambda: bool(again.ends))
            assert again.told == set(), "nobody is told its own routes"
            await other.read_until(lambda: add(3) in other.told)
            assert (other.told, other.removed) == ({add(1), add(2), add(3)}, 0)
            await again.call.write(pb.SessionRequest(announced_all=True))
            await other.read_until(lambda: bool(other.removed))
            assert (other.told, other.removed) == ({add(2), add(3)}, 1)


async def test_a_peer_that_asks_for_no_hold_is_forgotten_at_once(server: ServerProcess) -> None:
    async with stream(server.grpc_address) as other:
        await other.hello("other")
        await other.follow()
        async with stream(server.grpc_address) as one:
            await one.hello("one", hold=0)
            await one.send(add(1))
            await other.read_until(lambda: bool(other.told))
        await other.read_until(lambda: not other.told)


async def test_a_returning_peer_replaces_its_dead_session(server: ServerProcess) -> None:
    async with stream(server.grpc_address) as dead, stream(server.grpc_address) as alive:
        await dead.hello("one")
        await dead.send(add(1))
        await alive.hello("one")
        ended = await dead.refused()
        assert (ended.code(), "same name" in ended.details()) == (grpc.StatusCode.ABORTED, True)
        await alive.send(wire.removal(add(1)))
        await alive.read_until(lambda: alive.acknowledged == 1)
        async with grpc_channel(server.grpc_address) as channel:
            listed = await pb_grpc.RouteReflectorStub(channel).ListRoutes(pb.ListRoutesRequest())
        assert not listed.routes, "an heir may withdraw"


async def test_reflectors_are_not_told_what_reflectors_pass_on(server: ServerProcess) -> None:
    async with stream(server.grpc_address) as one, stream(server.grpc_address) as two, raw_peer(server) as client:
        await one.hello("one", reflector=True)
        await two.hello("two", reflector=True)
        await client.handshake()
        client.send(Subscribe(VNI))
        await one.send(add(1))
        assert await client.receive(1) == [Update(False, VNI, add(1))]
        client.send(add(2))
        await two.follow()
        await two.read_until(lambda: bool(two.ends))
        await one.send(add(3))
        assert await client.receive(1) == [Update(False, VNI, add(3))]
        client.send(add(3))
        await two.read_until(lambda: add(3) in two.told)
        assert two.told == {add(2), add(3)}


HELLO = pb.SessionRequest(hello=pb.SessionHello(node="one", window=1))


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        pytest.param([pb.SessionRequest(subscribe=1)], "begins with hello", id="no hello"),
        pytest.param([HELLO, HELLO], "a second hello", id="two hellos"),
        pytest.param([pb.SessionRequest(hello=pb.SessionHello(window=1))], "node: ", id="a hello without a name"),
        pytest.param([pb.SessionRequest(hello=pb.SessionHello(node="n"))], "window: ", id="a hello without a window"),
        pytest.param([HELLO, pb.SessionRequest()], "nothing that this server knows", id="an empty frame"),
        pytest.param([HELLO, pb.SessionRequest(subscribe=2**24)], "vni: ", id="a VNI beyond 24 bits"),
        pytest.param([HELLO, pb.SessionRequest(acknowledge=1)], "0 batches were sent", id="an early acknowledgement"),
        pytest.param([HELLO, pb.SessionRequest(batch=pb.RouteBatch(sequence=2))], "2 follows 0", id="a lost batch"),
        pytest.param(
            [HELLO, pb.SessionRequest(batch=pb.RouteBatch(sequence=1, updates=add(1)[:-1]))],
            "end inside a frame",
            id="half a frame",
        ),
        pytest.param(
            [HELLO, pb.SessionRequest(batch=pb.RouteBatch(sequence=1, updates=bytes.fromhex("01000002")))],
            "a KEEPALIVE among them",
            id="a frame that is no update",
        ),
        pytest.param(
            [HELLO, pb.SessionRequest(batch=pb.RouteBatch(sequence=1, updates=bytes.fromhex("010002050864")))],
            "bad update",
            id="an update that means nothing",
        ),
        pytest.param(
            [HELLO, pb.SessionRequest(batch=pb.RouteBatch(sequence=1, updates=bytes(2**20 + 1)))],
            "more than 1048576",
            id="a huge batch",
        ),
    ],
)
async def test_a_bad_stream_is_ended_with_its_reason(
    shared_server: ServerProcess, requests: list[pb.SessionRequest], said: str
) -> None:
    async with stream(shared_server.grpc_address) as bad:
        for request in requests:
            await bad.call.write(request)
        ended = await bad.refused()
        assert ended.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert said in ended.details()


async def test_sigterm_ends_streams_in_order(server: ServerProcess) -> None:
    async with stream(server.grpc_address) as one:
        await one.hello()
        assert await server.kill(signal.SIGTERM) == 0
        assert (await one.refused()).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


POLICY = """
rules:
  - identities: ["hypervisor-*"]
    announce: ["100"]
    subscribe: ["100-101"]
  - identities: ["operator"]
    read: true
  - identities: ["anonymous"]
    announce: ["101"]
    subscribe: ["*"]
"""


@dataclass
class Guarded:
    """A server with TLS and a policy."""

    server: ServerProcess
    address: str
    authority: Authority

    def identity(self, name: str) -> TlsFiles:
        return TlsFiles(self.authority.certificate_file, *self.authority.issue(name, Identity(name)))


@pytest.fixture
async def guarded(make_server: Callable[..., Awaitable[ServerProcess]], tmp_path: Path) -> Guarded:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("reflector", Identity("reflector", hosts=("127.0.0.1", "localhost")))
    (tmp_path / "policy.yaml").write_text(POLICY)
    address = f"127.0.0.1:{free_port()}"
    server = await make_server(
        *("--tls-ca", str(authority.certificate_file), "--tls-cert", str(certificate), "--tls-key", str(key)),
        *("--policy", str(tmp_path / "policy.yaml"), "--grpc-listen", address),
    )
    return Guarded(server, address, authority)


async def test_an_identity_may_what_the_policy_says(guarded: Guarded) -> None:
    async with stream(guarded.address, guarded.identity("hypervisor-1")) as one, raw_peer(guarded.server) as plain:
        await one.hello("hypervisor-1")
        await plain.handshake()
        for vni in (100, 101):
            plain.send(Subscribe(Vni(vni)))
            await one.follow(vni)
        await one.follow(102)
        await one.send(add(1), elsewhere(1, 101), elsewhere(2, 101))
        plain.send(add(2) + elsewhere(3, 101))
        assert await plain.receive(1) == [Update(False, VNI, add(1))]
        await one.read_until(lambda: elsewhere(3, 101) in one.told and len(one.refusals) == 2)
        assert one.told == {elsewhere(3, 101)}
        assert {(refusal.vni, refusal.announcing) for refusal in one.refusals} == {(101, True), (102, False)}
        plain.send(wire.Keepalive())
        assert await plain.receive(1) == [wire.Keepalive()], "a TCP peer isn't told of a refusal, and stays"


async def test_only_who_may_read_reads(guarded: Guarded) -> None:
    for name, code in (("operator", None), ("hypervisor-1", grpc.StatusCode.PERMISSION_DENIED)):
        async with grpc_channel(guarded.address, tls=guarded.identity(name)) as channel:
            await asyncio.wait_for(channel.channel_ready(), STEP_SECONDS)
            stub = pb_grpc.RouteReflectorStub(channel)
            for ask in (stub.ListPeers(pb.ListPeersRequest()), stub.ListRoutes(pb.ListRoutesRequest())):
                try:
                    await ask
                    found = None
                except grpc.aio.AioRpcError as error:
                    found = error.code()
                assert found is code


async def test_a_name_must_be_the_certificate_s(guarded: Guarded) -> None:
    for name, code in (("hypervisor-1/agent", None), ("hypervisor-2", grpc.StatusCode.PERMISSION_DENIED)):
        async with stream(guarded.address, guarded.identity("hypervisor-1")) as one:
            if code is None:
                await one.hello(name)
                continue
            await one.call.write(pb.SessionRequest(hello=pb.SessionHello(node=name, window=1)))
            assert (await one.refused()).code() is code


@pytest.mark.parametrize("name", ["anonymous", "local"])
async def test_no_certificate_passes_for_somebody_without_one(guarded: Guarded, name: str) -> None:
    files = TlsFiles(guarded.authority.certificate_file, *guarded.authority.issue("trick", Identity(name)))
    async with stream(guarded.address, files) as one:
        ended = await one.refused()  # before it says hello
    assert ended.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "common name" in (ended.details() or "")


async def test_a_thousand_refusals_are_told_and_the_rest_counted(guarded: Guarded) -> None:
    async with stream(guarded.address, guarded.identity("hypervisor-1")) as one:
        await one.hello("hypervisor-1")
        await one.send(*(elsewhere(1, vni) for vni in range(1000, 3000)), add(7))
        await one.read_until(lambda: one.acknowledged == 1)
        assert len(one.refusals) == 1000
        await one.follow()
        await one.read_until(lambda: one.ends == [VNI])
    logged = [line for line in guarded.server.log if line["event"] == "not allowed"]
    assert len(logged) == 10


async def test_without_a_certificate_nobody_gets_in(guarded: Guarded) -> None:
    stranger = Authority(guarded.authority.directory.parent / "stranger")
    files = TlsFiles(guarded.authority.certificate_file, *stranger.issue("mallory", Identity("hypervisor-1")))
    async with grpc_channel(guarded.address, tls=files) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await pb_grpc.RouteReflectorStub(channel).ListPeers(pb.ListPeersRequest(), timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def elsewhere(number: int, vni: int) -> RouteFrame:
    route = wire.decode_route(add(number))
    return wire.encode_route(Route(Vni(vni), route.destination, route.next_hop))
