"""The net API server: two processes on one etcd give no number and no address out twice, and say whose they are."""

from __future__ import annotations

import asyncio

import pytest

from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.net.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.net.v1alpha1.network_pb2 import Network
from services.apimachinery.client.interface import Client
from services.apimachinery.errors import Conflict, Invalid, NotFound
from tests.integration.net.stack import NET, PARTITION, Stack


def network(name: str, vni: str = "") -> Network:
    made = Network(metadata=ObjectMeta(name=name, namespace=NET))
    made.spec.id = vni
    return made


def interface(name: str, *ips: str, network: str = "blue") -> NetworkInterface:
    made = NetworkInterface(metadata=ObjectMeta(name=name, namespace=NET))
    made.spec.node_ref.name, made.spec.network_ref.name = f"{PARTITION}.hv1", network
    made.spec.ips.extend(ips)
    return made


async def test_numbers_are_unique_and_run_out_with_a_clear_error(narrow: Stack) -> None:
    """Four writers on two servers take all 40 numbers; the public one is never given."""

    async def write(client: Client, writer: int) -> list[str]:
        return [(await client.create(network(f"n-{writer}-{number}"))).spec.id for number in range(10)]

    written = await asyncio.gather(*(write(narrow.nets[writer % 2], writer) for writer in range(4)))
    numbers = [int(vni) for part in written for vni in part]
    assert sorted(numbers) == sorted({*range(80, 121)} - {100})
    for client in narrow.nets:
        with pytest.raises(Conflict, match=r"spec\.id: all network numbers from 80 to 120 are taken"):
            await client.create(network("one-too-many"))
    with pytest.raises(Invalid, match="but not 100"):
        await narrow.net.create(network("public", "100"))
    with pytest.raises(Invalid, match="from 80 to 120"):
        await narrow.net.create(network("outside", "121"))

    # A deleted network's number is free at once.
    await narrow.net.delete(Network, "n-0-0", NET)
    assert (await narrow.nets[1].create(network("heir"))).spec.id == written[0][0]


async def test_a_number_that_is_asked_for_names_its_owner(stack: Stack) -> None:
    await stack.net.create(network("blue", "4711"))
    with pytest.raises(Conflict, match=rf"vni/4711 is already owned by .*{NET}/blue"):
        await stack.nets[1].create(network("red", "4711"))
    blue = await stack.net.get(Network, "blue", NET)
    with pytest.raises(Invalid, match="immutable"):
        await stack.net.patch(Network, "blue", {"spec": {"id": "4712"}}, NET)

    # Who leaves it out keeps it, whichever way is taken.
    blue.spec.id = ""
    assert (await stack.net.update(blue)).spec.id == "4711"
    applied = Network(metadata=ObjectMeta(name="blue", namespace=NET))
    applied.spec.SetInParent()
    assert (await stack.net.apply(applied, "somebody")).spec.id == "4711"

    fresh = Network(metadata=ObjectMeta(name="fresh", namespace=NET))
    fresh.spec.SetInParent()
    first = await stack.net.apply(fresh, "somebody")
    fresh.metadata.labels["more"] = "labels"
    assert (await stack.net.apply(fresh, "somebody")).spec.id == first.spec.id != ""


async def test_an_address_has_one_owner_in_its_network(stack: Stack) -> None:
    await stack.net.create(interface("a", "10.0.0.5", "fd00::5"))
    with pytest.raises(Conflict, match=rf"blue/10\.0\.0\.5 is already owned by .*{NET}/a"):
        await stack.nets[1].create(interface("b", "10.0.0.5"))
    with pytest.raises(Conflict, match=rf"blue/fd00::5 is already owned by .*{NET}/a"):
        await stack.nets[1].create(interface("b", "10.0.0.6", "fd00:0::0:5"))
    with pytest.raises(NotFound):
        await stack.net.get(NetworkInterface, "b", NET)
    await stack.net.create(interface("elsewhere", "10.0.0.5", network="red"))
    await stack.net.create(interface("b", "10.0.0.6"))  # nothing of the refused ones is left

    async def attempt(client: Client, number: int) -> bool:
        try:
            await client.create(interface(f"race-{number}", "10.0.0.7"))
        except Conflict:
            return False
        return True

    won = await asyncio.gather(*(attempt(stack.nets[number % 2], number) for number in range(8)))
    assert won.count(True) == 1

    # While finalizers hold a deleted interface its node may still use the address.
    await stack.net.patch(NetworkInterface, "a", {"metadata": {"finalizers": ["test.ferrite/hold"]}}, NET)
    await stack.net.delete(NetworkInterface, "a", NET)
    with pytest.raises(Conflict, match="already owned"):
        await stack.net.create(interface("heir", "10.0.0.5"))
    await stack.net.patch(NetworkInterface, "a", {"metadata": {"finalizers": None}}, NET)
    await stack.net.create(interface("heir", "10.0.0.5"))


async def test_bad_input_is_refused_by_field(stack: Stack) -> None:
    public, nodeless, netless = interface("bad"), interface("bad"), interface("bad", "10.0.0.1", network="")
    public.spec.public_ips.add(name="p", ip="nowhere")
    nodeless.spec.ClearField("node_ref")
    named = interface("bad")
    named.spec.hostname = "host*"
    for bad, field in (
        (interface("bad", "10.0.0.300"), r"spec\.ips\[0\]"),
        (interface("bad", "10.0.0.1", "10.0.0.2"), r"spec\.ips\[1\]"),
        (named, r"spec\.hostname"),
        (nodeless, r"spec\.nodeRef"),
        (netless, r"spec\.networkRef"),
        (public, r"spec\.publicIPs\[0\]"),
    ):
        with pytest.raises(Invalid, match=field):
            await stack.net.create(bad)
    await stack.net.create(interface("a", "10.0.0.1"))  # what was refused holds no address
    with pytest.raises(Invalid, match=r"spec\.ips.*immutable"):
        await stack.net.patch(NetworkInterface, "a", {"spec": {"ips": ["10.0.0.6"]}}, NET)
    with pytest.raises(Invalid, match=r"spec\.hostname.*immutable"):
        await stack.net.patch(NetworkInterface, "a", {"spec": {"hostname": "other"}}, NET)
