"""Each controller, killed at each await in turn: the next process brings the objects to where they belong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from protos.common.v1alpha1.common_pb2 import Condition
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.ipam.v1alpha1.prefix_allocation_pb2 import PrefixAllocation
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from services.apimachinery.client.objects import Key
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.core.controllers.machine_interfaces import MachineInterfaces
from services.core.controllers.prefixes import Prefixes
from services.core.model import names
from services.core.scheduler.scheduler import Scheduler
from services.core.scheduler.subjects import MACHINES
from tests.support.kills import Reconcile, survives_kills
from tests.support.memory_client import MemoryClient

Make = Callable[[Manager], Reconciler]


def process(make: Make, *keys: Key, caches: tuple[type, ...]) -> Callable[[MemoryClient], object]:
    """A controller that reconciles these keys in turn, with warm caches."""

    @asynccontextmanager
    async def running(client: MemoryClient) -> AsyncIterator[Reconcile]:
        manager = Manager(client)
        reconciler = make(manager)
        informers = [manager.informer(kind) for kind in caches]
        tasks = [asyncio.create_task(informer.run()) for informer in informers]
        for informer in informers:
            await informer.synced()

        async def work() -> None:
            for key in keys:
                await reconciler.reconcile(key)
                for _ in range(4):  # events travel
                    await asyncio.sleep(0)

        try:
            yield work
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    return running


async def with_machine() -> MemoryClient:
    client = MemoryClient()
    machine = Machine(metadata=ObjectMeta(name="m", namespace="ns"))
    machine.spec.machine_class_ref.name = "c"
    for name in "ab":
        template = machine.spec.network_interfaces.add(name=name).ephemeral.network_interface_template
        template.spec.network_ref.name = "blue"
    await client.create(machine)
    pool = await client.create(MachinePool(metadata=ObjectMeta(name="p")))
    pool.status.capacity["class/machine.c"] = "1"
    pool.status.conditions.append(Condition(type="Ready", status="True"))
    await client.update_status(pool)
    return client


async def with_prefixes() -> MemoryClient:
    client = MemoryClient()
    root = Prefix(metadata=ObjectMeta(name="root", namespace="ns"))
    root.spec.ip_family, root.spec.prefix = "IPv4", "10.0.0.0/24"
    await client.create(root)
    for name in "ab":
        child = Prefix(metadata=ObjectMeta(name=name, namespace="ns"))
        child.spec.ip_family, child.spec.prefix_length, child.spec.parent_ref.name = "IPv4", 32, "root"
        await client.create(child)
    return client


async def is_bound(client: MemoryClient) -> None:
    assert (await client.get(Machine, "m", "ns")).spec.machine_pool_ref.name == "p"


async def has_interfaces(client: MemoryClient) -> None:
    interfaces = (await client.list(NetworkInterface, "ns")).items
    assert [interface.metadata.name for interface in interfaces] == ["m-a", "m-b"]


async def has_addresses(client: MemoryClient) -> None:
    prefixes = {prefix.metadata.name: prefix for prefix in (await client.list(Prefix, "ns")).items}
    assert all(prefix.status.phase == "Allocated" for prefix in prefixes.values())
    assert {prefixes[name].spec.prefix for name in "ab"} == {"10.0.0.0/32", "10.0.0.1/32"}
    assert list(prefixes["root"].status.used) == ["10.0.0.0/32", "10.0.0.1/32"]
    requests = (await client.list(PrefixAllocation, "ns")).items
    assert [request.metadata.labels[names.REQUESTER_LABEL] for request in requests] == [
        prefixes[request.metadata.owner_references[0].name].metadata.uid for request in requests
    ]


MACHINE = Key("ns", "m")
CHILDREN = [Key("ns", "a"), Key("ns", "b")]
ROOT = Key("ns", "root")


@pytest.mark.parametrize(
    ("world", "make", "keys", "caches", "check"),
    [
        pytest.param(
            with_machine, lambda m: Scheduler(m, MACHINES), [MACHINE], (Machine, MachinePool), is_bound, id="scheduler"
        ),
        pytest.param(
            with_machine, MachineInterfaces, [MACHINE], (Machine, NetworkInterface), has_interfaces, id="interfaces"
        ),
        pytest.param(
            with_prefixes,
            lambda m: Prefixes(m, timeout=1.0),
            [ROOT, *CHILDREN, ROOT, *CHILDREN],
            (Prefix, PrefixAllocation),
            has_addresses,
            id="prefixes",
        ),
    ],
)
async def test_survives_a_kill_at_each_await(world, make, keys, caches, check) -> None:  # type: ignore[no-untyped-def]
    assert await survives_kills(world, process(make, *keys, caches=caches), check, rounds=4) > 1
