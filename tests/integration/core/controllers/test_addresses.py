"""Addresses for interfaces, from prefixes that hand out parts of themselves."""

from __future__ import annotations

import asyncio

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.ipam.v1alpha1.prefix_allocation_pb2 import PrefixAllocation
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from services.apimachinery.client.objects import is_deleting
from services.apimachinery.errors import NotFound
from tests.integration.core.controllers.conftest import User
from tests.support.eventually import eventually

WITHIN = 30.0


async def prefix_of(user: User, name: str) -> str:
    """A prefix's range once it is allocated."""

    async def look() -> str:
        prefix = await user.client.get(Prefix, name, user.token)
        return prefix.spec.prefix if prefix.status.phase == "Allocated" else ""

    return await eventually(look, within=WITHIN)


async def gone(user: User, kind: type[Prefix] | type[NetworkInterface], name: str) -> None:
    async def look() -> bool:
        try:
            await user.client.get(kind, name, user.token)
        except NotFound:
            return True
        return False

    await eventually(look, within=WITHIN)


async def test_an_interface_gets_the_lowest_address_and_gives_it_back(user: User) -> None:
    await user.root("private", "10.0.0.0/24")
    for name in ("a", "b"):
        machine = user.machine(name)
        machine.spec.network_interfaces.append(user.interface("private"))
        await user.client.create(machine)
        await prefix_of(user, f"{name}-nic-0")
    interface = await user.client.get(NetworkInterface, "a-nic", user.token)
    owner = await user.client.get(Machine, "a", user.token)
    assert interface.spec.machine_ref.uid == owner.metadata.uid
    assert [await prefix_of(user, f"{name}-nic-0") for name in ("a", "b")] == ["10.0.0.0/32", "10.0.0.1/32"]
    assert len((await user.client.list(PrefixAllocation, user.token)).items) == 2
    root = await user.client.get(Prefix, "private", user.token)
    assert list(root.status.used) == ["10.0.0.0/32", "10.0.0.1/32"]

    await user.client.delete(Machine, "a", user.token)
    await gone(user, NetworkInterface, "a-nic")
    await gone(user, Prefix, "a-nic-0")
    await user.child("next", length=32, parent="private")
    assert await prefix_of(user, "next") == "10.0.0.0/32"


async def test_children_by_labels_find_room_in_any_of_their_parents(user: User) -> None:
    for name, prefix in (("r1", "10.0.0.0/8"), ("r2", "11.0.0.0/8")):
        await user.root(name, prefix, pool="x")
    for number in range(4):
        await user.child(f"c{number}", length=9, pool="x")
    ranges = {await prefix_of(user, f"c{number}") for number in range(4)}
    assert ranges == {"10.0.0.0/9", "10.128.0.0/9", "11.0.0.0/9", "11.128.0.0/9"}
    await user.child("late", length=9, pool="x")
    await eventually(lambda: _told(user, "late-", "NoSuitablePrefix"))
    await user.client.delete(Prefix, "c2", user.token)
    assert await prefix_of(user, "late") in ranges


async def _told(user: User, name: str, reason: str) -> bool:
    return reason in await user.reasons("PrefixAllocation", name)


async def test_a_child_as_large_as_its_parent_is_refused(user: User) -> None:
    await user.root("r", "10.0.0.0/24", pool="x")
    await prefix_of(user, "r")
    await user.child("by-name", length=24, parent="r")
    await user.child("same", prefix="10.0.0.0/24", parent="r")
    await user.child("by-label", length=24, pool="x")

    async def phases() -> dict[str, str]:
        requests = (await user.client.list(PrefixAllocation, user.token)).items
        return {request.metadata.owner_references[0].name: request.status.phase for request in requests}

    async def settled() -> bool:
        return await phases() == {"by-name": "Failed", "same": "Failed", "by-label": "Pending"}

    await eventually(settled, within=WITHIN)
    await eventually(lambda: _told(user, "by-label-", "NoSuitablePrefix"))
    await eventually(lambda: _told(user, "by-name-", "Incompatible"))
    assert [await user.phase_of(name) for name in ("by-name", "same", "by-label")] == ["Pending"] * 3


async def test_a_named_parent_without_room_is_waited_for(user: User) -> None:
    await user.root("r", "10.0.0.0/31")
    for name in ("a", "b"):
        await user.child(name, length=32, parent="r")
        await prefix_of(user, name)
    await user.child("c", length=32, parent="r")
    await eventually(lambda: _told(user, "c-", "NoRoom"), within=WITHIN)
    await user.client.delete(Prefix, "b", user.token)
    assert await prefix_of(user, "c") == "10.0.0.1/32"


async def test_a_prefix_in_use_stays_until_its_children_are_gone(user: User) -> None:
    await user.root("r", "10.0.0.0/24")
    await user.child("mid", length=28, parent="r")
    await prefix_of(user, "mid")
    await user.child("leaf", length=32, parent="mid")
    await prefix_of(user, "leaf")
    for name in ("r", "mid"):
        await user.client.delete(Prefix, name, user.token)
    assert is_deleting(await user.client.get(Prefix, "mid", user.token))
    await user.client.delete(Prefix, "leaf", user.token)
    for name in ("leaf", "mid", "r"):
        await gone(user, Prefix, name)


async def test_addresses_follow_the_interface_spec(user: User) -> None:
    await user.root("r", "10.0.0.0/24")
    interface = NetworkInterface(metadata=ObjectMeta(name="nic", namespace=user.token))
    interface.spec.network_ref.name = "blue"
    interface.spec.ip_families.append("IPv4")
    interface.spec.ips.add().ephemeral.prefix_template.spec.parent_ref.name = "r"
    routed = interface.spec.prefixes.add().ephemeral.prefix_template.spec
    routed.ip_family, routed.prefix_length, routed.parent_ref.name = "IPv4", 28, "r"
    await user.client.create(interface)
    await asyncio.gather(prefix_of(user, "nic-0"), prefix_of(user, "nic-pf-0"))
    live = await user.client.get(NetworkInterface, "nic", user.token)
    del live.spec.prefixes[:]
    await user.client.update(live)
    await gone(user, Prefix, "nic-pf-0")
    assert await user.phase_of("nic-0") == "Allocated"
