"""The client and its doors: the same by both, gRPC first, TCP where nobody is behind it, never past a refusal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import grpc
import pytest

from ferrite.dev.certificates import Authority, Identity
from protos.metalbond.v1 import metalbond_pb2 as pb
from protos.metalbond.v1 import metalbond_pb2_grpc as pb_grpc
from services.common.addresses import split_address
from services.common.tls import TlsFiles
from services.metalbond.client import (
    Change,
    ConnectionState,
    MetalbondClient,
    NextHop,
    Route,
    RouteChange,
    Vni,
)
from tests.integration.metalbond.conftest import ServerProcess, free_port
from tests.integration.metalbond.test_client import SETTLE, following
from tests.support.eventually import eventually

VNI = Vni(100)
MakeServer = Callable[..., Awaitable[ServerProcess]]


def route(number: int = 1, vni: Vni = VNI) -> Route:
    return Route(vni, ip_network((0x0A000000 + number, 32)), NextHop(ip_address(f"2001:db8::{number:x}")))


def client(*servers: str, node: str = "one", tls: TlsFiles | None = None, settle: float = SETTLE) -> MetalbondClient:
    return MetalbondClient(servers, keepalive=5, grace=60.0, settle=settle, hold=60, node=node, tls=tls)


def both(server: ServerProcess) -> tuple[str, str]:
    return server.address, server.grpc_address


async def test_peers_of_both_doors_see_each_other(server: ServerProcess) -> None:
    by_tcp, by_grpc = client(server.address), client(server.grpc_address, node="two")
    async with by_tcp, by_grpc, following(by_tcp) as seen_tcp, following(by_grpc) as seen_grpc:
        for bond, number in ((by_tcp, 1), (by_grpc, 2)):
            bond.subscribe(VNI)
            bond.announce(route(number))
        await eventually(lambda: by_tcp.routes(VNI) == [route(2)] and by_grpc.routes(VNI) == [route(1)])
        await eventually(lambda: len(seen_tcp) == len(seen_grpc) == 1)
        assert [by_tcp.servers[server.address].door, by_grpc.servers[server.grpc_address].door] == ["tcp", "grpc"]
        for bond, number in ((by_tcp, 1), (by_grpc, 2)):
            bond.withdraw(route(number))
        await eventually(lambda: len(seen_tcp) == len(seen_grpc) == 2)
        assert [change.kind for change in seen_tcp + seen_grpc] == [Change.ADDED, Change.REMOVED] * 2


async def test_a_killed_server_comes_back_and_nobody_loses_a_route(server: ServerProcess) -> None:
    one, other = client(server.grpc_address), client(server.grpc_address, node="two")
    async with one, other, following(other) as seen:
        other.subscribe(VNI)
        for number in range(200):
            one.announce(route(number))
        await eventually(lambda: len(seen) == 200)
        await server.kill(signal.SIGKILL)
        await eventually(lambda: not one.servers[server.grpc_address].door)
        one.withdraw(route(1))
        one.announce(route(999))
        await server.start()
        await eventually(lambda: route(999) in other.routes(VNI))
        await eventually(lambda: RouteChange(Change.REMOVED, route(1)) in seen, within=60)
        assert [change for change in seen if change.kind is Change.REMOVED] == [RouteChange(Change.REMOVED, route(1))]
        assert len(seen) == 202


async def test_losing_one_of_two_servers_withdraws_nothing(make_server: MakeServer) -> None:
    servers = [await make_server("--grace", "0"), await make_server("--grace", "0")]
    one = client(*(server.grpc_address for server in servers))
    # The other hears of each by another door.
    other = client(servers[0].address, servers[1].grpc_address, node="two")
    async with one, other, following(other) as seen:
        other.subscribe(VNI)
        one.announce(route(1))
        for bond in (one, other):
            await bond.wait_established(2)
        for count, server in enumerate(servers, start=2):
            await server.kill()
            await eventually(lambda: sum(bool(each.door) for each in other.servers.values()) == 1)
            one.announce(route(count))
            await eventually(lambda: len(other.routes(VNI)) == count)  # noqa: B023
            await server.start()
            for bond in (one, other):
                await bond.wait_established(2)
        await eventually(lambda: seen)
        assert {change.kind for change in seen} == {Change.ADDED}


async def test_a_stopped_server_is_noticed(server: ServerProcess) -> None:
    async with client(server.grpc_address) as one:
        await asyncio.wait_for(one.wait_established(), 30)
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            await eventually(lambda: "grpc unavailable" in one.servers[server.grpc_address].error)
        finally:
            server.process.send_signal(signal.SIGCONT)
        await asyncio.wait_for(one.wait_established(), 30)


async def test_unsubscribing_forgets_what_was_learned_and_keeps_what_is_announced(server: ServerProcess) -> None:
    one, other = client(server.grpc_address), client(server.grpc_address, node="two")
    async with one, other:
        for bond, number in ((one, 1), (other, 2)):
            bond.announce(route(number))
            bond.subscribe(VNI)
        await eventually(lambda: one.routes(VNI) == [route(2)] and other.routes(VNI) == [route(1)])
        one.unsubscribe(VNI)
        one.subscribe(VNI)
        assert one.routes(VNI) == []
        await eventually(lambda: one.routes(VNI) == [route(2)])
        assert other.routes(VNI) == [route(1)]


async def test_a_returning_client_s_withdrawn_routes_go_at_once(server: ServerProcess) -> None:
    other = client(server.grpc_address, node="other")
    async with other:
        other.subscribe(VNI)
        async with client(server.grpc_address) as one:
            one.announce(route(1))
            one.announce(route(2))
            await eventually(lambda: len(other.routes(VNI)) == 2)
        async with client(server.grpc_address) as again:
            again.announce(route(1))
            await eventually(lambda: other.routes(VNI) == [route(1)], within=30)  # held for 60 s otherwise


async def test_twenty_thousand_routes_both_ways(server: ServerProcess) -> None:
    one, late = client(server.grpc_address), client(server.grpc_address, node="late")
    routes = {route(number) for number in range(20_000)}
    for what in routes:
        one.announce(what)
    async with one:
        late.subscribe(VNI)
        async with late, following(late) as seen:
            await eventually(lambda: len(seen) == len(routes))
            assert {change.route for change in seen} == routes


async def test_three_hundred_networks(server: ServerProcess) -> None:
    for address in both(server):
        one = client(address, settle=0.0)
        for vni in range(300):
            one.subscribe(Vni(vni))
        async with one:
            await eventually(lambda: one.settled)  # noqa: B023
            async with grpc.aio.insecure_channel(server.grpc_address) as channel:
                stub = pb_grpc.RouteReflectorStub(channel)

                async def followed() -> list[tuple[int, int]]:
                    peers = (await stub.ListPeers(pb.ListPeersRequest())).peers  # noqa: B023
                    found = [(len(peer.subscriptions), peer.updates_received) for peer in peers]
                    return found if found == [(300, 0)] else []  # the client before it may still be leaving

                await eventually(followed)


class Pki:
    """Certificates of an authority, and how a server and clients use them."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)

    def files(self, name: str, *hosts: str) -> TlsFiles:
        certificate, key = self.authority.issue(name, Identity(name, hosts=hosts))
        return TlsFiles(self.authority.certificate_file, certificate, key)

    def server_flags(self, port: int) -> list[str]:
        files = self.files("server", "::1")
        return [
            *("--grpc-listen", f"[::1]:{port}", "--tls-ca", str(files.ca)),
            *("--tls-cert", str(files.cert), "--tls-key", str(files.key)),
        ]


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


async def test_grpc_first_then_tcp(make_server: MakeServer, pki: Pki) -> None:
    port = free_port()
    server = await make_server(*pki.server_flags(port))
    address = f"{server.address}/{port}"
    async with client(address, node="", tls=pki.files("one")) as one:
        await eventually(lambda: one.servers[address].door == "grpc")
        await server.kill()
        server.flags[:] = ["--grpc-listen", ""]
        await server.start()
        await eventually(lambda: one.servers[address].door == "tcp")
        assert one.servers[address].ends.fallbacks == 1
        await server.kill()
        server.flags[:] = pki.server_flags(port)
        await server.start()
        await eventually(lambda: one.servers[address].state is ConnectionState.ESTABLISHED)


async def test_a_server_that_starts_is_never_found_with_its_tcp_door_alone(server: ServerProcess) -> None:
    assert [line["event"] for line in server.log if "listening" in line["event"]] == ["grpc listening", "listening"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        pytest.param(
            lambda pki, path: Pki(path / "other").files("one"), "certificate signature failure", id="their CA"
        ),
        pytest.param(
            lambda pki, path: _mixed(pki.files("one"), Pki(path / "other").files("one")),
            "had seen our certificate",
            id="our certificate",
        ),
        pytest.param(lambda pki, path: pki.files("two"), "PERMISSION_DENIED", id="another's name"),
    ],
)
async def test_a_refused_identity_is_not_carried_past_the_door(
    make_server: MakeServer, pki: Pki, tmp_path: Path, files: Callable[[Pki, Path], TlsFiles], reason: str
) -> None:
    port = free_port()
    server = await make_server(*pki.server_flags(port))
    address = f"{server.address}/{port}"
    async with client(address, node="one", tls=files(pki, tmp_path)) as one:
        await eventually(lambda: reason in one.servers[address].error, world=lambda: one.servers[address])
        status = one.servers[address]
        assert (status.door, status.ends.fallbacks, set(status.ends.ended)) == ("", 0, {"refused"})
    assert "session established" not in (server.folder / "log").read_text()  # gRPC itself writes lines that are no JSON


def _mixed(ca: TlsFiles, own: TlsFiles) -> TlsFiles:
    return TlsFiles(ca.ca, own.cert, own.key)


async def test_a_server_without_sessions_is_used_by_tcp(server: ServerProcess) -> None:
    other = grpc.aio.server()
    port = other.add_insecure_port("[::1]:0")
    pb_grpc.add_RouteReflectorServicer_to_server(pb_grpc.RouteReflectorServicer(), other)
    await other.start()
    try:
        address = f"[::1]:{split_address(server.address)[1]}/{port}"
        async with client(address) as one:
            await eventually(lambda: one.servers[address].door == "tcp")
    finally:
        await other.stop(0)
