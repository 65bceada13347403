"""The machinepoollet as a process, between a real API server and a runtime that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
import pytest

from protos.common.v1alpha1.common_pb2 import LocalObjectReference
from protos.compute.v1alpha1.machine_pb2 import Machine, MachineNetworkInterface, MachineVolume
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.iri.machine.v1alpha1 import machine_pb2 as iri
from protos.k8s.events.v1.event_pb2 import Event
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.network_pb2 import Network
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.runtime.conditions import find_condition
from services.core.poollets.keys import MACHINE
from tests.integration.core.poollets.conftest import Cell
from tests.support.eventually import eventually


def nic(name: str) -> MachineNetworkInterface:
    return MachineNetworkInterface(name="eth0", network_interface_ref=LocalObjectReference(name=name))


def disk(name: str) -> MachineVolume:
    return MachineVolume(name="data", device="vda", volume_ref=LocalObjectReference(name=name))


def runs(machine: Machine) -> bool:
    return machine.status.state == "Running"


def reason_is(type: str, *reasons: str) -> Any:
    def look(obj: Any) -> bool:
        condition = find_condition(obj.status.conditions, type)
        return condition is not None and condition.reason in reasons

    return look


async def quiet(cell: Cell, kinds: Iterable[tuple[type[Any], str]], seconds: float = 1.5) -> None:
    """After the last words nobody writes these objects for a while: no two writers fight, no loop is hot."""
    kinds = list(kinds)

    async def versions() -> list[str]:
        return [(await cell.get(kind, name)).metadata.resource_version for kind, name in kinds]

    async def unchanged() -> bool:
        before = await versions()
        await asyncio.sleep(seconds)
        return await versions() == before

    await eventually(unchanged)


async def test_a_machine_runs_with_interface_and_volume_and_gives_them_back(machines: Cell) -> None:
    await machines.network()
    await machines.interface("n1")
    await machines.available(await machines.volume("v1", pool=False))
    await machines.machine("m", network_interfaces=[nic("n1")], volumes=[disk("v1")])
    running = await machines.seen(Machine, "m", runs)
    assert running.status.machine_id == f"test://{machines.runtime.only().metadata.id}"
    assert [(item.name, item.state, item.network_interface_ref.name) for item in running.status.network_interfaces] == [
        ("eth0", "Attached", "n1")
    ]
    assert [(item.name, item.state, item.volume_ref.name) for item in running.status.volumes] == [
        ("data", "Attached", "v1")
    ]
    interface = await machines.seen(NetworkInterface, "n1", lambda n: n.spec.provider_id == "nic/eth0")
    assert interface.spec.machine_ref.name == "m"
    asked = machines.runtime.only().spec.network_interfaces[0]
    assert (asked.network_id, list(asked.ips)) == ("net-1", ["10.0.0.5"])
    await quiet(machines, [(Machine, "m"), (NetworkInterface, "n1"), (Volume, "v1")])

    # The machine drops both: they are free again, but the volume only once the runtime has let go of it.
    machines.runtime.attaches = False
    await machines.client.patch(Machine, "m", {"spec": {"volumes": None, "networkInterfaces": None}}, machines.token)
    await machines.happens(lambda: not machines.runtime.only().spec.volumes)
    await asyncio.sleep(0.5)
    assert (await machines.get(Volume, "v1")).spec.claim_ref.name == "m"
    machines.runtime.settle()
    await machines.seen(Volume, "v1", lambda v: not v.spec.HasField("claim_ref"))
    freed = await machines.seen(NetworkInterface, "n1", lambda n: not n.spec.HasField("machine_ref"))
    assert not freed.spec.provider_id


async def test_a_waiting_machine_says_for_what_and_is_woken(machines: Cell) -> None:
    await machines.machine("m", network_interfaces=[nic("n1")], volumes=[disk("v1")])
    await machines.seen(Machine, "m", reason_is("NetworkInterfacesReady", "NetworkInterfaceNotFound"))
    await machines.seen(Machine, "m", reason_is("VolumesReady", "VolumeNotFound"))
    await machines.interface("n1")
    await machines.seen(Machine, "m", reason_is("NetworkInterfacesReady", "NetworkNotFound"))
    await machines.network("")
    await machines.seen(Machine, "m", reason_is("NetworkInterfacesReady", "NetworkNotReady"))
    await quiet(machines, [(Machine, "m")])
    await machines.client.patch(Network, "blue", {"spec": {"providerID": "net-1"}}, machines.token)
    waiting = await machines.seen(Machine, "m", reason_is("Ready", "VolumeNotFound"))
    assert find_condition(waiting.status.conditions, "NetworkInterfacesReady") is None
    volume = await machines.volume("v1", pool=False)
    await machines.seen(Machine, "m", reason_is("VolumesReady", "VolumeNotReady"))
    await machines.available(await machines.seen(Volume, "v1", lambda v: v.spec.claim_ref.name == "m"))
    await machines.seen(Machine, "m", runs)
    assert volume.metadata.uid
    assert machines.runtime.calls["CreateMachine"] == 1


async def test_a_running_machine_waits_for_a_new_interface_without_a_fight(machines: Cell) -> None:
    await machines.machine("m")
    await machines.seen(Machine, "m", runs)
    await machines.interface("n1")
    item = {"name": "eth0", "networkInterfaceRef": {"name": "n1"}}
    await machines.client.patch(Machine, "m", {"spec": {"networkInterfaces": [item]}}, machines.token)
    await machines.seen(Machine, "m", reason_is("NetworkInterfacesReady", "NetworkNotFound"))
    await quiet(machines, [(Machine, "m"), (NetworkInterface, "n1")])
    await machines.network()
    done = await machines.seen(Machine, "m", reason_is("NetworkInterfacesReady", "NetworkInterfacesReady"))
    assert [item.state for item in done.status.network_interfaces] == ["Attached"]
    await machines.seen(NetworkInterface, "n1", lambda n: n.spec.provider_id == "nic/eth0")


async def test_killed_while_it_creates_there_is_one_machine(machines: Cell) -> None:
    machines.runtime.answer_creations.clear()
    await machines.machine("m")
    await machines.happens(lambda: machines.runtime.calls["CreateMachine"])
    machines.poollet.kill()
    machines.runtime.answer_creations.set()
    machines.poollet.start()
    await machines.seen(Machine, "m", runs)
    assert machines.runtime.calls["CreateMachine"] == len(machines.runtime.objects) == 1


async def test_of_several_runtime_machines_the_oldest_stays(machines: Cell) -> None:
    await machines.machine("m")
    await machines.seen(Machine, "m", runs)
    first = machines.runtime.only().metadata.id
    surplus = iri.Machine()
    surplus.CopyFrom(machines.runtime.only())
    machines.runtime.add(surplus)
    await machines.happens(lambda: list(machines.runtime.objects) == [first])

    async def told() -> bool:
        events = (await machines.client.list(Event, machines.token)).items
        return any(event.reason == "DuplicateInRuntime" for event in events)

    await machines.happens(told)


async def test_runtime_machines_without_an_object_go_but_not_those_of_another_pool(machines: Cell) -> None:
    """Two pools may share a runtime; and a cache may be behind."""
    elsewhere = Machine()
    elsewhere.metadata.name, elsewhere.metadata.namespace = "elsewhere", machines.token
    elsewhere.spec.machine_class_ref.name = machines.token
    elsewhere.spec.machine_pool_ref.name = "another-pool"
    elsewhere = await machines.client.create(elsewhere)
    foreign = machines.runtime.add(iri.Machine())
    foreign.metadata.labels.update(MACHINE.labels(elsewhere.metadata))
    unlabelled = machines.runtime.add(iri.Machine())
    for name, uid in (("gone", "u-1"), ("elsewhere", "u-2")):
        orphan = machines.runtime.add(iri.Machine())
        orphan.metadata.labels.update({MACHINE.uid: uid, MACHINE.namespace: machines.token, MACHINE.name: name})
    kept = {foreign.metadata.id, unlabelled.metadata.id}
    await machines.happens(lambda: set(machines.runtime.objects) == kept)
    await machines.machine("m")
    await machines.seen(Machine, "m", runs)
    assert kept < set(machines.runtime.objects)


async def test_deletion_waits_for_the_runtime(machines: Cell) -> None:
    await machines.machine("m")
    await machines.seen(Machine, "m", runs)
    machines.runtime.slow_deletion = True
    await machines.client.delete(Machine, "m", machines.token)
    await machines.happens(lambda: machines.runtime.only().metadata.deleted_at)
    machines.runtime.only().status.state = iri.MACHINE_TERMINATING
    await machines.seen(Machine, "m", lambda m: m.status.state == "Terminating")
    # A new poollet goes on where the killed one was.
    machines.poollet.kill()
    machines.poollet.start()
    machines.runtime.finish_deletions()
    await machines.gone(Machine, "m")


async def test_a_refusal_is_told_and_tried_again(machines: Cell) -> None:
    machines.runtime.refuse("CreateMachine", grpc.StatusCode.INVALID_ARGUMENT, "image nowhere is unknown")
    await machines.machine("m")
    told = await machines.seen(Machine, "m", reason_is("Ready", "RuntimeInvalidArgument"))
    condition = find_condition(told.status.conditions, "Ready")
    assert condition is not None
    assert "image nowhere is unknown" in condition.message
    machines.runtime.allow("CreateMachine")
    running = await machines.seen(Machine, "m", runs)
    assert reason_is("Ready", "Running")(running)


async def test_a_failed_attachment_does_not_hide_the_machines_state(machines: Cell) -> None:
    await machines.network()
    await machines.machine("m")
    await machines.seen(Machine, "m", runs)
    machines.runtime.refuse("AttachNetworkInterface", grpc.StatusCode.INTERNAL, "no TAP is left")
    await machines.interface("n1")
    item = {"name": "eth0", "networkInterfaceRef": {"name": "n1"}}
    await machines.client.patch(Machine, "m", {"spec": {"networkInterfaces": [item]}}, machines.token)
    await machines.happens(lambda: machines.runtime.calls["AttachNetworkInterface"] > 1)
    machines.runtime.only().status.state = iri.MACHINE_SUSPENDED
    await machines.seen(Machine, "m", lambda m: m.status.state == "Shutdown")
    machines.runtime.allow("AttachNetworkInterface")
    machines.runtime.settle()
    await machines.seen(Machine, "m", lambda m: m.status.network_interfaces[0].state == "Attached")


@pytest.mark.parametrize("power", ["On", "Off"])
async def test_power_is_sent_with_the_creation(machines: Cell, power: str) -> None:
    await machines.machine("m", power=power)
    await machines.seen(Machine, "m", lambda m: m.status.state == ("Running" if power == "On" else "Shutdown"))
    assert machines.runtime.calls["UpdateMachinePower"] == 0
    other = "Off" if power == "On" else "On"
    await machines.client.patch(Machine, "m", {"spec": {"power": other}}, machines.token)
    await machines.seen(Machine, "m", lambda m: m.status.state == ("Running" if other == "On" else "Shutdown"))


async def test_the_pool_publishes_what_is_left_and_whether_the_runtime_answers(machines: Cell) -> None:
    resource = f"class/machine.{machines.token}"

    async def published(allocatable: str, state: str) -> None:
        async def look() -> bool:
            pool = await machines.client.get(MachinePool, machines.token)
            if pool.status.allocatable[resource] == allocatable and pool.status.state == state:
                return True
            raise AssertionError(str(pool.status))

        await machines.happens(look)

    await published("10", "Ready")
    await machines.machine("m")
    await published("9", "Ready")
    machines.runtime.refuse("Status", grpc.StatusCode.UNAVAILABLE, "down")
    await published("9", "Error")
    machines.runtime.allow("Status")
    await published("9", "Ready")
    assert (await machines.client.get(MachinePool, machines.token)).status.capacity[resource] == "10"
