"""Two nodes and everything between them, as processes: what becomes of interfaces, and what their status says."""

from __future__ import annotations

import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1.node_pb2 import Node
from protos.k8s.events.v1.event_pb2 import Event
from protos.metalnet.v1alpha1.network_interface_pb2 import NATDetails
from protos.metalnet.v1alpha1.network_pb2 import Network
from services.apimachinery.errors import Invalid
from tests.integration.metalnet.cluster import NAMESPACE, Partition, underlay
from tests.support.eventually import eventually


async def test_interfaces_find_each_other(partition: Partition) -> None:
    one, two = partition.nodes
    await partition.create_network("blue", 2001)
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1", "fd00::1", hostname="vm-a")
    await partition.create_nic("b", "blue", "hv2", "10.0.0.2", "fd00::2")
    a, b = await partition.ready("a"), await partition.ready("b")
    assert one.claims == {a.metadata.uid: a.status.tap_device.name}
    [port] = await one.interfaces()
    assert (port.id.decode(), port.vni, port.hostname) == (a.metadata.uid, 2001, "vm-a")
    assert int(port.pci_name.removeprefix("net_tap")) == int(a.status.tap_device.name.removeprefix("dtapvf_")) + 2
    await partition.routes_are(one, 2001, {"10.0.0.2/32": underlay(b), "fd00::2/128": underlay(b)})
    await partition.routes_are(two, 2001, {"10.0.0.1/32": underlay(a), "fd00::1/128": underlay(a)})
    await partition.condition("a", "Announced", "Announced")
    await partition.delete("b")
    await partition.routes_are(one, 2001, {})
    assert await two.interfaces() == []
    assert two.claims == {}


async def test_networks_stay_apart(partition: Partition) -> None:
    one, _ = partition.nodes
    await partition.create_network("blue", 2001)
    await partition.create_network("red", 2002)
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1")
    await partition.create_nic("b", "blue", "hv2", "10.0.0.2")
    await partition.create_nic("c", "red", "hv2", "10.0.0.2")
    b = await partition.ready("b")
    await partition.ready("c")
    await partition.routes_are(one, 2001, {"10.0.0.2/32": underlay(b)})
    assert await one.routes(2002) == {}


async def test_the_node_is_registered(partition: Partition) -> None:
    async def ready() -> Node | None:
        node = await partition.client.get(Node, "hv1")
        return node if [(each.type, each.status) for each in node.status.conditions] == [("Ready", "True")] else None

    node = await eventually(ready)
    assert node.metadata.labels["kubernetes.io/hostname"] == "hv1"
    assert {address.type: address.address for address in node.status.addresses} == {
        "InternalIP": "192.0.2.1",
        "Hostname": "hv1",
    }
    lease = await partition.client.get(Lease, "hv1", "kube-node-lease")
    assert lease.spec.holder_identity == "hv1"
    assert lease.metadata.owner_references[0].uid == node.metadata.uid


async def test_it_waits_for_its_network(partition: Partition) -> None:
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1")
    assert "network blue does not exist" in await partition.condition("a", "Ready", "NetworkNotFound")
    await partition.create_network("blue", 2001)
    await partition.ready("a")

    async def reasons() -> bool:
        events = (await partition.client.list(Event, NAMESPACE)).items
        return {"NetworkNotFound", "Programmed"} <= {event.reason for event in events}

    await eventually(reasons)


async def test_it_waits_for_a_device(partition: Partition) -> None:
    await partition.create_network("blue", 2001)
    for number in range(4):
        await partition.create_nic(f"a{number}", "blue", "hv1", f"10.0.0.{number + 1}")
        await partition.ready(f"a{number}")
    await partition.create_nic("late", "blue", "hv1", "10.0.0.9")
    assert "all 4 devices" in await partition.condition("late", "DeviceClaimed", "NoFreeDevice")
    device = (await partition.nic("a2")).status.tap_device.name
    await partition.delete("a2")
    late = await partition.ready("late")
    assert late.status.tap_device.name == device


@pytest.mark.parametrize(
    ("change", "address"),
    [
        pytest.param({"hostname": "renamed"}, "10.0.0.1", id="hostname"),
        pytest.param({"ips": ["10.0.0.7"]}, "10.0.0.7", id="address"),
        pytest.param({"networkRef": {"name": "red"}}, "10.0.0.1", id="network"),
    ],
)
async def test_changes_arrive(partition: Partition, change: dict[str, object], address: str) -> None:
    one, two = partition.nodes
    await partition.create_network("blue", 2001)
    await partition.create_network("red", 2002)
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1", hostname="old")
    await partition.create_nic("b", "blue", "hv2", "10.0.0.2")
    await partition.create_nic("c", "red", "hv2", "10.0.0.2")
    before = await partition.ready("a")
    await partition.ready("b")
    await partition.ready("c")
    await partition.routes_are(two, 2001, {"10.0.0.1/32": underlay(before)})
    await partition.patch("a", change)
    vni = 2002 if "networkRef" in change else 2001

    async def changed() -> bool:
        ports = await one.interfaces()
        seen = [(port.vni, port.primary_ipv4.decode(), port.hostname) for port in ports]
        assert seen == [(vni, address, change.get("hostname", "old"))], seen
        return True

    await eventually(changed)
    after = await partition.ready("a")
    assert after.status.tap_device.name == before.status.tap_device.name
    await partition.routes_are(two, vni, {f"{address}/32": underlay(await partition.ready("a"))})
    await partition.routes_are(two, 4003 - vni, {})


async def test_prefixes(partition: Partition) -> None:
    one, two = partition.nodes
    await partition.create_network("blue", 2001)
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1", prefixes=["10.1.0.0/24"])
    await partition.create_nic("b", "blue", "hv2", "10.0.0.2")
    a = await partition.ready("a")
    assert list(a.status.prefixes) == ["10.1.0.0/24"]

    async def destinations(wanted: set[str]) -> bool:
        return (await two.routes(2001)).keys() == wanted

    await eventually(lambda: destinations({"10.0.0.1/32", "10.1.0.0/24"}))
    own = (await two.routes(2001))["10.1.0.0/24"]
    assert own != underlay(a)
    await partition.patch("a", {"prefixes": ["10.2.0.0/24", "fd01::/64"]})
    await eventually(lambda: destinations({"10.0.0.1/32", "10.2.0.0/24", "fd01::/64"}))
    assert len(await one.interfaces()) == 1


async def test_what_is_not_carried_out_is_said(partition: Partition) -> None:
    await partition.create_network("blue", 2001)
    await partition.create_nic(
        "a", "blue", "hv1", "10.0.0.1", virtual_ip="192.0.2.9", nat=NATDetails(ip="192.0.2.8", port=1, end_port=9)
    )
    assert "virtualIP, nat" in await partition.condition("a", "FeaturesProgrammed", "NotSupported")
    assert (await partition.nic("a")).status.state == "Error"
    await partition.patch("a", {"virtualIP": None, "nat": None})
    await partition.client.patch(Network, "blue", {"spec": {"peeredIDs": [2002]}}, NAMESPACE)
    assert "VNI 2002" in await partition.condition("a", "PeeringsProgrammed", "NotSupported")
    a = await partition.ready("a")
    assert "FeaturesProgrammed" not in [condition.type for condition in a.status.conditions]


async def test_the_same_address_twice_on_a_node(partition: Partition) -> None:
    await partition.create_network("blue", 2001)
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1")
    await partition.ready("a")
    await partition.create_nic("b", "blue", "hv1", "10.0.0.1")
    assert "10.0.0.1 in VNI 2001" in await partition.condition("b", "Programmed", "AddressInUse")


async def test_a_machine_moves(partition: Partition) -> None:
    """The new host announces before the old one withdraws; a third party ends with the new next hop."""
    one, two = partition.nodes
    await partition.create_network("blue", 2001)
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1")
    await partition.create_nic("b", "blue", "hv1", "10.0.0.2")
    await partition.create_nic("c", "blue", "hv2", "10.0.0.3")
    await partition.ready("a")
    c = await partition.ready("c")
    await partition.ready("b")
    await partition.patch("a", {"nodeName": "hv2"})

    async def moved() -> bool:
        return {port.primary_ipv4 for port in await two.interfaces()} == {b"10.0.0.1", b"10.0.0.3"}

    await eventually(moved)
    a = await partition.ready("a")

    async def reported() -> bool:
        return underlay(await partition.nic("a")).startswith("fc00:1:0:2:")

    await eventually(reported)
    a = await partition.nic("a")
    await partition.routes_are(one, 2001, {"10.0.0.1/32": underlay(a), "10.0.0.3/32": underlay(c)})
    assert [port.primary_ipv4 for port in await one.interfaces()] == [b"10.0.0.2"]
    assert len(one.claims) == 1


async def test_what_nobody_wants_is_swept(partition: Partition) -> None:
    """Interfaces on our devices without an object, and routes that nobody announces, go."""
    one, _ = partition.nodes
    await partition.create_network("blue", 2001)
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1")
    a = await partition.ready("a")
    request = pb.CreateInterfaceRequest(
        interface_id=b"stranger",
        vni=2001,
        device_name="net_tap2" if a.status.tap_device.name == "dtapvf_1" else "net_tap3",
        ipv4_config=pb.IpConfig(primary_address=b"10.0.0.77"),
    )
    await one.create_interface(request)
    await one.add_route(2001, "10.9.9.9/32", "fc00:9::9")
    await partition.routes_are(one, 2001, {})

    async def alone() -> bool:
        return [port.primary_ipv4 for port in await one.interfaces()] == [b"10.0.0.1"]

    await eventually(alone)


@pytest.mark.parametrize(
    ("ips", "spec", "field"),
    [
        pytest.param(["10.0.0.1"], {"ip_families": ["IPv6"]}, "spec.ipFamilies", id="one family more than addresses"),
        pytest.param(["x"], {}, "spec.ips[0]", id="no address"),
        pytest.param(
            ["10.0.0.1"], {"nat": NATDetails(ip="192.0.2.1", port=9, end_port=1)}, "spec.nat.endPort", id="empty range"
        ),
        pytest.param(["10.0.0.1"], {"prefixes": ["10.0.0.0/33"]}, "spec.prefixes[0]", id="no prefix"),
        pytest.param(["10.0.0.1"], {"load_balancer_targets": ["10.0.0.0/8"]}, "Targets[0]", id="a target is one host"),
    ],
)
async def test_bad_specs_are_refused(partition: Partition, ips: list[str], spec: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        await partition.create_nic("bad", "blue", "hv1", *ips, **spec)
    assert field in refusal.value.causes[0].field
