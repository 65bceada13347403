"""Any part may die at any moment: what was there works on, what changed meanwhile arrives afterwards."""

from __future__ import annotations

import asyncio

from protos.k8s.core.v1.node_pb2 import Node
from protos.metalnet.v1alpha1.network_interface_pb2 import NetworkInterface
from tests.integration.metalnet.cluster import WITHIN, Partition, underlay
from tests.support.eventually import eventually


async def two_machines(partition: Partition) -> None:
    await partition.create_network("blue", 2001)
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1")
    await partition.create_nic("b", "blue", "hv2", "10.0.0.2")
    await converged(partition)


async def converged(partition: Partition) -> None:
    one, two = partition.nodes

    async def look() -> bool:
        a, b = await partition.ready("a"), await partition.ready("b")
        there = await one.routes(2001), await two.routes(2001)
        assert there == ({"10.0.0.2/32": underlay(b)}, {"10.0.0.1/32": underlay(a)}), there
        ports = [[port.underlay_route.decode() for port in await node.interfaces()] for node in (one, two)]
        assert ports == [[underlay(a)], [underlay(b)]], ports
        return True

    await eventually(look, WITHIN, every=0.1)


async def test_a_killed_agent(partition: Partition) -> None:
    """Interfaces deleted and made while it was dead, and routes withdrawn meanwhile, are caught up with."""
    one, _ = partition.nodes
    await two_machines(partition)
    await partition.create_nic("c", "blue", "hv2", "10.0.0.3")
    await partition.create_nic("d", "blue", "hv1", "10.0.0.4")
    await partition.ready("c")
    await partition.ready("d")
    before = await partition.nic("a")
    await eventually(lambda: has_routes(partition, 2))
    one.agent.kill()
    await partition.delete("c")
    await partition.delete("d")
    one.agent.start()
    await converged(partition)
    after = await partition.nic("a")
    assert underlay(after) == underlay(before)
    assert after.status.tap_device == before.status.tap_device
    assert list(one.claims) == [after.metadata.uid]


async def has_routes(partition: Partition, count: int) -> bool:
    return len(await partition.nodes[0].routes(2001)) == count


async def test_a_data_plane_that_lost_its_state(partition: Partition) -> None:
    one, _ = partition.nodes
    await two_machines(partition)
    device = (await partition.nic("a")).status.tap_device.name
    one.dataplane.kill()

    async def noticed() -> bool:
        node = await partition.client.get(Node, "hv1")
        return [condition.status for condition in node.status.conditions] == ["False"]

    await eventually(noticed)
    assert (await partition.nic("a")).status.state == "Ready"  # packets would still flow
    one.dataplane.start("--cold")
    await eventually(one.interfaces, WITHIN, every=0.1)
    await converged(partition)
    assert (await partition.nic("a")).status.tap_device.name == device


async def test_both_dead(partition: Partition) -> None:
    one, _ = partition.nodes
    await two_machines(partition)
    one.agent.kill()
    one.dataplane.kill()
    one.agent.start()
    one.dataplane.start("--cold")
    await eventually(one.interfaces, WITHIN, every=0.1)
    await converged(partition)


async def test_a_killed_reflector(partition: Partition) -> None:
    """Known routes stay; interfaces made meanwhile are Ready, say that nobody knows them, and are announced later."""
    one, two = partition.nodes
    await two_machines(partition)
    partition.bond.kill()
    await partition.condition("a", "Announced", "NoReflector")
    await partition.create_nic("c", "blue", "hv1", "10.0.0.3")
    c = await partition.ready("c")
    assert len(await one.routes(2001)) == 1
    partition.bond.start()

    async def arrived() -> bool:
        return (await two.routes(2001)).get("10.0.0.3/32") == underlay(c)

    await eventually(arrived, WITHIN, every=0.1)
    await partition.condition("a", "Announced", "Announced")
    await partition.delete("c")
    await converged(partition)


async def test_an_agent_restarted_without_its_api(partition: Partition) -> None:
    """Its interfaces stay announced beyond the reflector's grace of five seconds."""
    one, two = partition.nodes
    await two_machines(partition)
    partition.api.kill()
    one.agent.kill()
    one.agent.start()
    routes = await two.routes(2001)
    assert len(routes) == 1
    deadline = asyncio.get_running_loop().time() + 8
    while asyncio.get_running_loop().time() < deadline:
        assert await two.routes(2001) == routes
        assert len(await one.interfaces()) == 1
        await asyncio.sleep(0.5)
    partition.api.start()
    await eventually(lambda: partition.nic("a"), WITHIN, every=0.2)
    await converged(partition)


async def test_a_dead_agent_is_noticed(partition: Partition) -> None:
    one, _ = partition.nodes

    async def ready(status: str, reason: str) -> bool:
        node = await partition.client.get(Node, "hv1")
        assert [(each.status, each.reason) for each in node.status.conditions] == [(status, reason)], node.status
        return True

    await eventually(lambda: ready("True", "AgentReady"))
    one.agent.kill()
    await eventually(lambda: ready("Unknown", "AgentLost"), WITHIN, every=0.2)
    one.agent.start()
    await eventually(lambda: ready("True", "AgentReady"))


async def test_a_dead_node_holds_nobody_up(partition: Partition) -> None:
    """Once its Node is deleted, so are its deleted interfaces; what it still had is swept should it come back."""
    one, _ = partition.nodes
    await two_machines(partition)
    one.agent.kill()
    await partition.delete("a")
    await partition.client.delete(Node, "hv1")

    async def gone() -> bool:
        return [nic.metadata.name for nic in (await partition.client.list(NetworkInterface)).items] == ["b"]

    await eventually(gone, WITHIN, every=0.2)
    assert len(await one.interfaces()) == 1
    one.agent.start()

    async def swept() -> bool:
        return not await one.interfaces() and not one.claims

    await eventually(swept, WITHIN, every=0.2)
