"""apinetlet and metalnetlet as processes between three API servers; the tests play users, providers and agents."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from protos.k8s.core.v1 import node_pb2 as local
from protos.k8s.core.v1.namespace_pb2 import Namespace
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.metalnet.v1alpha1 import network_interface_pb2 as metalnet
from protos.metalnet.v1alpha1 import network_pb2 as metalnet_network
from protos.net.v1alpha1 import network_interface_pb2 as net
from protos.net.v1alpha1 import network_pb2 as net_network
from protos.net.v1alpha1 import node_pb2 as net_node
from protos.networking.v1alpha1 import network_interface_pb2 as core
from protos.networking.v1alpha1 import network_pb2 as core_network
from services.apimachinery.client.interface import Client
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.conditions import find_condition
from services.net.model.origin import APINETLET_NETWORK, APINETLET_NETWORK_INTERFACE
from services.net.model.partition import Partition
from services.net.model.provider_id import ProviderId
from tests.integration.net.stack import METALNET, NET, PARTITION, WITHIN, Stack, gone, seen
from tests.support.eventually import eventually

HELD = "test.ferrite/agent"
"""What the agent of a node puts on an interface while its data plane has it."""
OURS = Partition(PARTITION).finalizer


@pytest.fixture
async def tenant(stack: Stack) -> str:
    """A namespace of core."""
    name = f"t-{secrets.token_hex(4)}"
    await stack.core.create(Namespace(metadata=ObjectMeta(name=name)))
    return name


def core_interface(name: str, tenant: str) -> core.NetworkInterface:
    made = core.NetworkInterface(metadata=ObjectMeta(name=name, namespace=tenant))
    made.spec.network_ref.name = "blue"
    made.spec.ip_families.append("IPv4")
    made.spec.ips.add(value="10.0.0.5")
    made.spec.prefixes.add(value="10.1.0.0/24")
    return made


def net_interface(name: str, network: str, node: str = f"{PARTITION}.hv1") -> net.NetworkInterface:
    """As the machine provider makes it."""
    made = net.NetworkInterface(metadata=ObjectMeta(name=name, namespace=NET))
    made.spec.node_ref.name, made.spec.network_ref.name = node, network
    made.spec.ips.append("10.0.0.5")
    return made


async def new_network(client: Client, tenant: str, name: str = "blue") -> core_network.Network:
    made = core_network.Network(metadata=ObjectMeta(name=name, namespace=tenant))
    made.spec.SetInParent()
    return await client.create(made)


async def quiet(seconds: float, *watched: tuple[Client, type[Any], str, str]) -> None:
    """After the last words nobody writes these objects for a while."""

    async def versions() -> list[str]:
        return [(await c.get(kind, name, place)).metadata.resource_version for c, kind, name, place in watched]

    async def unchanged() -> bool:
        before = await versions()
        await asyncio.sleep(seconds)
        return await versions() == before

    await eventually(unchanged)


async def test_an_interfaces_way_there_and_back(stack: Stack, tenant: str) -> None:
    stack.apinetlet.start()
    stack.metalnetlet.start()
    await stack.add_node("hv1")
    node = await seen(stack.net, net_node.Node, f"{PARTITION}.hv1", "", bool)
    assert dict(node.metadata.labels) == {"topology.core.apinet.ironcore.dev/partition": PARTITION, "zone": "z1"}

    # Network: the number comes back in the provider id.
    uid = (await new_network(stack.core, tenant)).metadata.uid
    blue = await seen(stack.core, core_network.Network, "blue", tenant, lambda n: n.status.state == "Available")
    identity = ProviderId.parse(blue.spec.provider_id)
    projected = await stack.net.get(net_network.Network, uid, NET)
    assert identity == ProviderId(NET, uid, projected.spec.id, projected.metadata.uid)
    assert not projected.metadata.finalizers  # no partition carries what nobody uses

    # Interface: made by the provider of the machine, projected to its node.
    made = await stack.net.create(net_interface("nic", uid))
    held = await seen(stack.net, net.NetworkInterface, "nic", NET, lambda n: n.metadata.finalizers)
    assert list(held.metadata.finalizers) == [OURS]
    there = await seen(stack.metalnet, metalnet.NetworkInterface, made.metadata.uid, METALNET, bool)
    assert (there.spec.node_name, there.spec.network_ref.name, list(there.spec.ips)) == (
        "hv1",
        projected.metadata.uid,
        ["10.0.0.5"],
    )
    vni = await seen(stack.metalnet, metalnet_network.Network, projected.metadata.uid, METALNET, bool)
    assert str(vni.spec.id) == projected.spec.id

    # The agent answers; the core interface that names the net interface hears of it.
    await stack.metalnet.patch(
        metalnet.NetworkInterface, there.metadata.name, {"metadata": {"finalizers": [HELD]}}, METALNET
    )
    there = await stack.metalnet.get(metalnet.NetworkInterface, there.metadata.name, METALNET)
    there.status.state, there.status.tap_device.name = "Ready", "dtapvf_0"
    await stack.metalnet.update_status(there)
    ready = await seen(stack.net, net.NetworkInterface, "nic", NET, lambda n: n.status.state == "Ready")
    assert ready.status.tap_device.name == "dtapvf_0"
    # The plugin learns of it from the poollet, before or after it sees the net interface itself.
    await stack.core.create(core_interface("n", tenant))
    await seen(stack.core, core.NetworkInterface, "n", tenant, lambda n: n.status.state == "Pending")
    handle = str(ProviderId(NET, "nic", f"{PARTITION}.hv1", made.metadata.uid))
    await stack.core.patch(core.NetworkInterface, "n", {"spec": {"providerID": handle}}, tenant)
    told = await seen(stack.core, core.NetworkInterface, "n", tenant, lambda n: n.status.state == "Available")
    assert (list(told.status.ips), list(told.status.prefixes)) == (["10.0.0.5"], ["10.1.0.0/24"])
    await seen(
        stack.metalnet,
        metalnet.NetworkInterface,
        there.metadata.name,
        METALNET,
        lambda n: list(n.spec.prefixes) == ["10.1.0.0/24"],
    )

    await quiet(
        1.5,
        (stack.core, core.NetworkInterface, "n", tenant),
        (stack.core, core_network.Network, "blue", tenant),
        (stack.net, net.NetworkInterface, "nic", NET),
        (stack.net, net_network.Network, uid, NET),
        (stack.metalnet, metalnet.NetworkInterface, there.metadata.name, METALNET),
    )

    # The provider applies again as it did first: the marks of others stay.
    again = net_interface("nic", uid)
    again.metadata.labels["machine"] = "m"
    applied = await stack.net.apply(again, "provider")
    assert APINETLET_NETWORK_INTERFACE.uid(applied) == told.metadata.uid
    assert list(applied.spec.prefixes) == ["10.1.0.0/24"]

    # The network is deleted while it is used: it stays until the interface is gone, and that until its node let go.
    await stack.core.delete(core_network.Network, "blue", tenant)
    await seen(stack.net, net_network.Network, uid, NET, lambda n: n.metadata.HasField("deletion_timestamp"))
    stack.metalnetlet.kill()
    await stack.net.delete(net.NetworkInterface, "nic", NET)
    stack.metalnetlet.start()
    await seen(
        stack.metalnet,
        metalnet.NetworkInterface,
        there.metadata.name,
        METALNET,
        lambda n: n.metadata.HasField("deletion_timestamp"),
    )
    assert (await stack.net.get(net.NetworkInterface, "nic", NET)).metadata.finalizers
    await stack.metalnet.get(metalnet_network.Network, projected.metadata.uid, METALNET)
    stack.apinetlet.kill()
    await stack.metalnet.patch(
        metalnet.NetworkInterface, there.metadata.name, {"metadata": {"finalizers": None}}, METALNET
    )
    await gone(stack.net, net.NetworkInterface, "nic", NET)
    await gone(stack.metalnet, metalnet_network.Network, projected.metadata.uid, METALNET)
    await gone(stack.net, net_network.Network, uid, NET)
    stack.apinetlet.start()
    await stack.core.delete(core.NetworkInterface, "n", tenant)
    await gone(stack.core, core.NetworkInterface, "n", tenant)

    async def let_go() -> bool:
        try:
            network = await stack.core.get(core_network.Network, "blue", tenant)
        except NotFound:
            return True
        return "apinet.ironcore.dev/network" not in network.metadata.finalizers

    await eventually(let_go, WITHIN)


async def test_a_node_that_is_not_known(stack: Stack) -> None:
    stack.metalnetlet.start()
    blue = net_network.Network(metadata=ObjectMeta(name="blue", namespace=NET))
    blue = await stack.net.create(blue)
    made = await stack.net.create(net_interface("nic", "blue", f"{PARTITION}.hv2"))
    await stack.net.create(net_interface("foreign", "red", "p2.hv1"))

    def waits(reason: str) -> Any:
        def look(interface: net.NetworkInterface) -> bool:
            ready = find_condition(interface.status.conditions, "Ready")
            return ready is not None and ready.reason == reason

        return look

    waiting = await seen(stack.net, net.NetworkInterface, "nic", NET, waits("NodeUnknown"))
    assert (waiting.status.state, list(waiting.metadata.finalizers)) == ("Pending", [])

    # It appears: projected. It loses its registration: unknown, but nothing is taken away. It comes back: as before.
    await stack.add_node("hv2")
    there = await seen(stack.metalnet, metalnet.NetworkInterface, made.metadata.uid, METALNET, bool)
    there.status.state, there.status.tap_device.name = "Ready", "dtapvf_0"
    await stack.metalnet.update_status(there)
    await seen(stack.net, net.NetworkInterface, "nic", NET, lambda n: n.status.state == "Ready")
    await stack.metalnet.delete(local.Node, "hv2")
    await gone(stack.net, net_node.Node, f"{PARTITION}.hv2")
    lost = await seen(stack.net, net.NetworkInterface, "nic", NET, lambda n: n.status.state == "Unknown")
    assert lost.status.tap_device.name == "dtapvf_0"
    assert (await stack.metalnet.get(metalnet.NetworkInterface, made.metadata.uid, METALNET)).metadata.uid == (
        there.metadata.uid
    )
    await stack.add_node("hv2")
    await seen(stack.net, net.NetworkInterface, "nic", NET, lambda n: n.status.state == "Ready")

    # A network that is not there, or never was.
    await stack.net.create(net_interface("lonely", "green", f"{PARTITION}.hv2"))
    await seen(stack.net, net.NetworkInterface, "lonely", NET, waits("NetworkNotFound"))
    green = await stack.net.create(net_network.Network(metadata=ObjectMeta(name="green", namespace=NET)))
    await seen(stack.net, net.NetworkInterface, "lonely", NET, waits("Projected"))
    assert (await stack.metalnet.get(metalnet_network.Network, green.metadata.uid, METALNET)).spec.id

    # The foreign one was never touched; a global Node that nobody stands behind goes.
    foreign = await stack.net.get(net.NetworkInterface, "foreign", NET)
    assert (list(foreign.metadata.finalizers), foreign.status.state) == ([], "")
    await stack.net.create(net_node.Node(metadata=ObjectMeta(name=f"{PARTITION}.nobody")))
    await stack.net.create(net_node.Node(metadata=ObjectMeta(name="p2.somebody")))
    await gone(stack.net, net_node.Node, f"{PARTITION}.nobody")
    await stack.net.get(net_node.Node, "p2.somebody")

    # A projection taken away by hand comes back, and the last interface takes the network out of the partition.
    await stack.metalnet.delete(metalnet.NetworkInterface, made.metadata.uid, METALNET)
    await seen(
        stack.metalnet,
        metalnet.NetworkInterface,
        made.metadata.uid,
        METALNET,
        lambda n: n.metadata.uid != there.metadata.uid,
    )
    await stack.net.delete(net.NetworkInterface, "nic", NET)
    await gone(stack.net, net.NetworkInterface, "nic", NET)
    await gone(stack.metalnet, metalnet_network.Network, blue.metadata.uid, METALNET)
    await seen(stack.net, net_network.Network, "blue", NET, lambda n: not n.metadata.finalizers)


async def test_projections_without_a_source_go_at_start_and_lost_ones_get_their_number_back(
    stack: Stack, tenant: str
) -> None:
    dangling = net_network.Network(metadata=ObjectMeta(name="dangling", namespace=NET))
    source = core_network.Network(metadata=ObjectMeta(name="never", namespace=tenant, uid="u-1"))
    APINETLET_NETWORK.mark(dangling, source)
    stale = net_network.Network(metadata=ObjectMeta(name="stale", namespace=NET))
    own = await new_network(stack.core, tenant)
    APINETLET_NETWORK.mark(stale, core_network.Network(metadata=ObjectMeta(name="blue", namespace=tenant, uid="u-2")))
    for made in (dangling, stale):
        await stack.net.create(made)
    await stack.net.create(net_network.Network(metadata=ObjectMeta(name="unmarked", namespace=NET)))
    stack.apinetlet.start()
    for name in ("dangling", "stale"):
        await gone(stack.net, net_network.Network, name, NET)
    await stack.net.get(net_network.Network, "unmarked", NET)

    blue = await seen(stack.core, core_network.Network, "blue", tenant, lambda n: n.spec.provider_id)
    first = await stack.net.get(net_network.Network, own.metadata.uid, NET)
    await stack.net.delete(net_network.Network, own.metadata.uid, NET)
    second = await seen(
        stack.net, net_network.Network, own.metadata.uid, NET, lambda n: n.metadata.uid != first.metadata.uid
    )
    assert second.spec.id == first.spec.id == ProviderId.parse(blue.spec.provider_id).detail
    await stack.core.delete(core_network.Network, "blue", tenant)
    await gone(stack.core, core_network.Network, "blue", tenant)
    await gone(stack.net, net_network.Network, own.metadata.uid, NET)
