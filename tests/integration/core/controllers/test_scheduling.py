"""Machines and volumes find pools; who finds none is told why."""

from __future__ import annotations

import asyncio
from collections import Counter

from protos.common.v1alpha1.common_pb2 import Condition
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.storage.v1alpha1.volume_pb2 import Volume
from protos.storage.v1alpha1.volume_pool_pb2 import VolumePool
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.conditions import find_condition
from tests.integration.core.controllers.conftest import User
from tests.support.eventually import eventually

WITHIN = 30.0
"""Seconds: the first test also waits for the processes to start."""


async def scheduled(user: User, name: str, kind: type[Machine] | type[Volume] = Machine) -> Condition:
    """The condition that says why an object waits."""

    async def look() -> Condition | None:
        obj = await user.client.get(kind, name, user.token)
        return find_condition(obj.status.conditions, "Scheduled")

    return await eventually(look, within=WITHIN)


async def test_the_pool_with_the_most_room_is_chosen(user: User) -> None:
    await user.pool("small", 1)
    large = await user.pool("large", 5)
    await user.client.create(user.machine("m"))
    assert await eventually(lambda: user.pool_of("m"), within=WITHIN) == large
    machine = await user.client.get(Machine, "m", user.token)
    assert machine.status.state == "Pending"
    assert await eventually(lambda: user.reasons("Machine", "m")) == {"Scheduled"}


async def test_a_machine_before_any_pool_waits_and_says_why(user: User) -> None:
    await user.client.create(user.machine("m"))
    condition = await scheduled(user, "m")
    assert condition.status == "False"
    assert await eventually(lambda: user.reasons("Machine", "m")) == {"OutOfCapacity"}
    pool = await user.pool("late", 1)
    assert await eventually(lambda: user.pool_of("m")) == pool

    async def corrected() -> bool:
        return (await scheduled(user, "m")).status == "True"

    assert await eventually(corrected)


async def test_a_machine_is_bound_when_a_pool_becomes_ready(user: User) -> None:
    pool = await user.pool("p", 1, ready=False)
    await user.client.create(user.machine("m"))
    assert (await scheduled(user, "m")).status == "False"
    live = await user.client.get(MachinePool, pool)
    live.status.conditions[0].status = "True"
    await user.client.update_status(live)
    assert await eventually(lambda: user.pool_of("m")) == pool


async def test_equal_pools_are_filled_evenly_and_never_beyond_their_capacity(user: User) -> None:
    for name in ("a", "b"):
        await user.pool(name, 5)
    await asyncio.gather(*[user.client.create(user.machine(f"m-{number}")) for number in range(13)])

    async def pools() -> Counter[str]:
        page = await user.client.list(Machine, user.token)
        return Counter(machine.spec.machine_pool_ref.name for machine in page.items)

    async def three_wait() -> bool:
        return (await pools())[""] == 3

    await eventually(three_wait, within=WITHIN)
    assert sorted((await pools()).values()) == [3, 5, 5]
    waiting = [m for m in (await user.client.list(Machine, user.token)).items if not m.spec.machine_pool_ref.name]
    assert [(await scheduled(user, m.metadata.name)).reason for m in waiting] == ["InsufficientCapacity"] * 3
    bound = next(m for m in (await user.client.list(Machine, user.token)).items if m.spec.machine_pool_ref.name)
    await user.client.delete(Machine, bound.metadata.name, user.token)

    async def two_wait() -> bool:
        return (await pools())[""] == 2

    await eventually(two_wait)


async def test_taints_keep_machines_off_and_drive_them_away(user: User) -> None:
    pool = await user.pool("tainted", 5, taint="gpu", effect="NoSchedule")
    await user.client.create(user.machine("plain"))
    tolerant = user.machine("tolerant")
    tolerant.spec.tolerations.add(key="gpu", operator="Exists")
    await user.client.create(tolerant)
    assert await eventually(lambda: user.pool_of("tolerant")) == pool
    assert (await scheduled(user, "plain")).reason == "TaintsNotTolerated"
    live = await user.client.get(MachinePool, pool)
    live.spec.taints.add(key="down", effect="NoExecute")
    await user.client.update(live)

    async def evicted() -> bool:
        try:
            return not await user.client.get(Machine, "tolerant", user.token)
        except NotFound:
            return True

    await eventually(evicted)

    async def told() -> bool:
        return "Evicted" in await user.reasons("Machine", "tolerant")

    await eventually(told)
    assert not await user.pool_of("plain")


async def test_disks_without_device_get_the_first_free_names(user: User) -> None:
    machine = user.machine("m")
    for name, device in (("a", ""), ("b", "odb"), ("c", "")):
        item = machine.spec.volumes.add(name=name, device=device)
        item.local_disk.SetInParent()
    created = await user.client.create(machine)
    assert [volume.device for volume in created.spec.volumes] == ["oda", "odb", "odc"]


async def test_volumes_are_scheduled_by_bytes(user: User) -> None:
    pool = await user.client.create(
        VolumePool(metadata=ObjectMeta(name=f"{user.token}-v", labels={"test": user.token}))
    )
    pool.status.capacity[f"class/volume.{user.token}"] = "10Gi"
    await user.client.update_status(pool)
    for name, size in (("fits", "8Gi"), ("waits", "4Gi")):
        volume = Volume(metadata=ObjectMeta(name=name, namespace=user.token))
        volume.spec.volume_class_ref.name = user.token
        volume.spec.volume_pool_selector["test"] = user.token
        volume.spec.resources["storage"] = size
        await user.client.create(volume)

        async def decided(name: str = name) -> bool:
            live = await user.client.get(Volume, name, user.token)
            return bool(live.spec.volume_pool_ref.name or live.status.conditions)

        await eventually(decided, within=WITHIN)
    assert (await user.client.get(Volume, "fits", user.token)).spec.volume_pool_ref.name == pool.metadata.name
    assert (await scheduled(user, "waits", Volume)).reason == "InsufficientCapacity"
