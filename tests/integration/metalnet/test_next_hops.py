"""Another next hop for a known prefix: at once where the data plane can do that, in two steps where it can't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, IPv6Address

import grpc
import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from services.metalbond.client import MetalbondClient, NextHop, Route, Vni
from tests.integration.metalnet.cluster import WITHIN, Node, Partition
from tests.support.eventually import eventually

VNI = 2001
PREFIX = IPv4Network("10.9.0.0/16")
LOW, HIGH = (Route(Vni(VNI), PREFIX, NextHop(IPv6Address(f"fc00:9::{n}"))) for n in (1, 2))
CHANGES = 40
TWO_STEPS = "changes next hops in two steps"


@pytest.fixture
async def announcer(partition: Partition) -> AsyncIterator[MetalbondClient]:
    """A peer that announces HIGH; hv1 has a machine in the network, and so the route."""
    await partition.create_network("blue", VNI)
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1")
    await partition.ready("a")
    async with MetalbondClient([f"[::1]:{partition.bond_port}"]) as client:
        client.announce(HIGH)
        await has(partition.nodes[0], HIGH)
        yield client


async def has(node: Node, route: Route) -> None:
    async def look() -> bool:
        return (await node.routes(VNI)).get(str(PREFIX)) == str(route.next_hop.address)

    await eventually(look, WITHIN, every=0.01)


async def change(node: Node, announcer: MetalbondClient, times: int) -> None:
    """The lowest next hop counts: it comes and goes."""
    for _ in range(times):
        announcer.announce(LOW)
        await has(node, LOW)
        announcer.withdraw(LOW)
        await has(node, HIGH)


@asynccontextmanager
async def watched(node: Node) -> AsyncIterator[list[set[str]]]:
    """What the data plane says of PREFIX meanwhile, as often as it can be asked: the next hops of each answer."""
    seen: list[set[str]] = []

    async def look() -> None:
        async with grpc.aio.insecure_channel(node.socket) as channel:
            stub = pb_grpc.DPDKironcoreStub(channel)
            while True:
                routes = (await stub.ListRoutes(pb.ListRoutesRequest(vni=VNI), timeout=20)).routes
                ours = [route for route in routes if route.prefix.ip.address.decode() == str(PREFIX.network_address)]
                seen.append({route.nexthop_address.address.decode() for route in ours})

    watchers = [asyncio.create_task(look()) for _ in range(4)]
    try:
        yield seen
    finally:
        for watcher in watchers:
            watcher.cancel()
        ended = await asyncio.gather(*watchers, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


async def test_never_without_a_next_hop(partition: Partition, announcer: MetalbondClient) -> None:
    one = partition.nodes[0]
    async with watched(one) as seen:
        await change(one, announcer, CHANGES)
    assert {hop for hops in seen for hop in hops} == {str(route.next_hop.address) for route in (LOW, HIGH)}
    assert [len(hops) for hops in seen] == [1] * len(seen)


async def test_a_route_that_somebody_else_removed(partition: Partition, announcer: MetalbondClient) -> None:
    """What can't be changed is made."""
    one = partition.nodes[0]
    prefix = pb.Prefix(
        ip=pb.IpAddress(ipver=pb.IPV4, address=str(PREFIX.network_address).encode()), length=PREFIX.prefixlen
    )
    async with grpc.aio.insecure_channel(one.socket) as channel:
        request = pb.DeleteRouteRequest(vni=VNI, route=pb.Route(prefix=prefix))
        await pb_grpc.DPDKironcoreStub(channel).DeleteRoute(request, timeout=20)
    announcer.announce(LOW)
    await has(one, LOW)


async def test_the_original_is_asked_once(partition: Partition, announcer: MetalbondClient) -> None:
    """It has no call for it; whoever answers in its place later may have."""
    one = partition.nodes[0]
    ours = one.dataplane.arguments[0]
    one.dataplane.kill()
    one.dataplane.arguments[0] = "tests.integration.metalnet.original"
    try:
        one.dataplane.start()
        await eventually(one.interfaces, WITHIN, every=0.1)
        before = one.agent.log.count(TWO_STEPS)
        await change(one, announcer, 5)
        assert one.agent.log.count(TWO_STEPS) == before + 1
    finally:
        one.dataplane.kill()
        one.dataplane.arguments[0] = ours
        one.dataplane.start()
        await eventually(one.interfaces, WITHIN, every=0.1)
    await has(one, HIGH)
    async with watched(one) as seen:
        await change(one, announcer, 5)
    assert [len(hops) for hops in seen] == [1] * len(seen)
    assert one.agent.log.count(TWO_STEPS) == before + 1
