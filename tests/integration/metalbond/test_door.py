"""The gRPC API of a real server process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.metalbond.v1 import metalbond_pb2 as pb
from protos.metalbond.v1 import metalbond_pb2_grpc as pb_grpc
from services.common.grpc_client import grpc_channel
from services.metalbond.client import MetalbondClient, NextHop, NextHopType, Route, Vni
from tests.integration.metalbond.conftest import STEP_SECONDS, ServerProcess
from tests.support.eventually import eventually

SERVICE = "ferrite.metalbond.v1.RouteReflector"


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc_channel(server.grpc_address) as channel:
        async with asyncio.timeout(STEP_SECONDS):
            await channel.channel_ready()
        yield channel


def route(number: int, vni: int = 100) -> Route:
    return Route(Vni(vni), ip_network((0x0A000000 + number, 32)), NextHop(ip_address("2001:db8::1")))


async def test_health_and_reflection(channel: grpc.aio.Channel) -> None:
    health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    async for answer in stub.ServerReflectionInfo(iter([ask])):
        found = FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
        assert [method.name for method in found.service[0].method] == ["ListPeers", "ListRoutes", "Session"]


async def test_peers_and_their_routes_are_listed(server: ServerProcess, channel: grpc.aio.Channel) -> None:
    stub = pb_grpc.RouteReflectorStub(channel)
    nat = Route(Vni(7), ip_network("45.86.6.6/32"), NextHop(ip_address("fc00::1"), NextHopType.NAT, (1024, 2047)))
    async with MetalbondClient([server.address]) as bond:
        bond.subscribe(Vni(100))
        bond.announce(nat)

        async def listed() -> list[pb.Peer]:
            peers = (await stub.ListPeers(pb.ListPeersRequest())).peers
            return [peer for peer in peers if peer.routes == 1 and peer.subscriptions]

        (peer,) = await eventually(listed)
        assert peer.state == pb.PEER_STATE_ESTABLISHED
        assert (peer.keepalive_seconds, list(peer.subscriptions), peer.updates_received) == (5, [100], 1)
        (status,) = (await stub.ListRoutes(pb.ListRoutesRequest())).routes
        assert status.sources == [peer.name]
        assert not status.stale
        assert status.route == pb.Route(
            vni=7,
            destination="45.86.6.6/32",
            next_hop=pb.NextHop(address="fc00::1", type=pb.NEXT_HOP_TYPE_NAT, nat_port_from=1024, nat_port_to=2047),
        )

    async def stale() -> bool:
        routes = (await stub.ListRoutes(pb.ListRoutesRequest())).routes
        peers = (await stub.ListPeers(pb.ListPeersRequest())).peers
        return [status.stale for status in routes] == [True] and peers[0].state == pb.PEER_STATE_STALE

    await eventually(stale)


async def test_pages_hold_every_route_once_and_in_order(server: ServerProcess, channel: grpc.aio.Channel) -> None:
    stub = pb_grpc.RouteReflectorStub(channel)
    routes = [route(number, vni) for vni in (0, 1, 300) for number in range(100)]
    async with MetalbondClient([server.address]) as bond:
        for what in routes:
            bond.announce(what)

        async def complete() -> bool:
            return len((await stub.ListRoutes(pb.ListRoutesRequest())).routes) == len(routes)

        await eventually(complete)
        listed: list[tuple[int, str]] = []
        token, pages = "", 0
        while pages == 0 or token:
            page = await stub.ListRoutes(pb.ListRoutesRequest(page_size=70, page_token=token))
            listed += [(status.route.vni, status.route.destination) for status in page.routes]
            token, pages = page.next_page_token, pages + 1
        assert listed == [(what.vni, str(what.destination)) for what in routes]
        assert pages == 5
        only = await stub.ListRoutes(pb.ListRoutesRequest(vni=0))
        assert len(only.routes) == 100


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        pytest.param(pb.ListRoutesRequest(vni=2**24), "vni: ", id="a VNI beyond 24 bits"),
        pytest.param(pb.ListRoutesRequest(page_size=10_001), "page_size: ", id="a huge page"),
        pytest.param(pb.ListRoutesRequest(page_token="?"), "page_token: ", id="no token"),
        pytest.param(pb.ListRoutesRequest(page_token="AAAA"), "page_token: ", id="a made-up token"),
    ],
)
async def test_bad_requests_are_named(channel: grpc.aio.Channel, request_: pb.ListRoutesRequest, said: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await pb_grpc.RouteReflectorStub(channel).ListRoutes(request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith(said)
