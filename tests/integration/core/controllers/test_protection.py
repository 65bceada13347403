"""What is in use stays; what nobody holds any more is free; pools that fall silent are noticed."""

from __future__ import annotations

import asyncio
import math

from google.protobuf.message import Message

from protos.common.v1alpha1.common_pb2 import Condition
from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.network_pb2 import Network
from protos.networking.v1alpha1.virtual_ip_pb2 import VirtualIP
from protos.storage.v1alpha1.volume_class_pb2 import VolumeClass
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import is_deleting, metadata_of
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.conditions import find_condition
from services.apimachinery.runtime.times import micro_time
from tests.integration.core.apiserver.conftest import CoreServer
from tests.integration.core.controllers.conftest import Controllers, User
from tests.support.eventually import eventually

WITHIN = 30.0
GRACE = 3  # seconds; a busy machine lets no less pass between heartbeats


async def until_held(client: Client, kind: type[Message], name: str, namespace: str = "") -> None:
    async def look() -> bool:
        return bool(metadata_of(await client.get(kind, name, namespace)).finalizers)

    await eventually(look, within=WITHIN)


async def until_gone(client: Client, kind: type[Message], name: str, namespace: str = "") -> None:
    async def look() -> bool:
        try:
            await client.get(kind, name, namespace)
        except NotFound:
            return True
        return False

    await eventually(look, within=WITHIN)


async def test_a_machine_class_stays_until_its_last_machine_is_gone(user: User) -> None:
    machine_class = MachineClass(metadata=ObjectMeta(name=user.token))
    machine_class.capabilities.update({"cpu": "1", "memory": "1Gi"})
    await user.client.create(machine_class)
    await until_held(user.client, MachineClass, user.token)
    for name in ("a", "b"):
        await user.client.create(user.machine(name))
    await user.client.delete(MachineClass, user.token)
    await user.client.delete(Machine, "a", user.token)
    await until_gone(user.client, Machine, "a", user.token)
    assert is_deleting(await user.client.get(MachineClass, user.token))
    await user.client.delete(Machine, "b", user.token)
    await until_gone(user.client, MachineClass, user.token)


async def test_an_unused_volume_class_goes_at_once(user: User) -> None:
    volume_class = VolumeClass(metadata=ObjectMeta(name=user.token))
    volume_class.capabilities.update({"tps": "1", "iops": "1"})
    await user.client.create(volume_class)
    await until_held(user.client, VolumeClass, user.token)
    await user.client.delete(VolumeClass, user.token)
    await until_gone(user.client, VolumeClass, user.token)


def interface(user: User, network: str) -> NetworkInterface:
    made = NetworkInterface(metadata=ObjectMeta(name="nic", namespace=user.token))
    made.spec.network_ref.name = network
    made.spec.ip_families.append("IPv4")
    made.spec.ips.add(value="10.0.0.1")
    return made


async def test_a_network_stays_until_its_last_interface_is_gone(user: User) -> None:
    await user.client.create(Network(metadata=ObjectMeta(name="blue", namespace=user.token)))
    await until_held(user.client, Network, "blue", user.token)
    await user.client.create(interface(user, "blue"))
    await user.client.delete(Network, "blue", user.token)
    assert is_deleting(await user.client.get(Network, "blue", user.token))
    await user.client.delete(NetworkInterface, "nic", user.token)
    await until_gone(user.client, Network, "blue", user.token)


async def test_claims_end_with_the_claimer_not_with_its_name(user: User) -> None:
    machine = await user.client.create(user.machine("m"))
    volume = Volume(metadata=ObjectMeta(name="disk", namespace=user.token))
    volume.spec.claim_ref.name, volume.spec.claim_ref.uid = "m", machine.metadata.uid
    await user.client.create(volume)
    nic = interface(user, "blue")
    nic.spec.machine_ref.name, nic.spec.machine_ref.uid, nic.spec.provider_id = "m", machine.metadata.uid, "x://1"
    await user.client.create(nic)
    await user.client.delete(Machine, "m", user.token)
    await until_gone(user.client, Machine, "m", user.token)
    await user.client.create(user.machine("m"))

    async def released() -> bool:
        disk = await user.client.get(Volume, "disk", user.token)
        live = await user.client.get(NetworkInterface, "nic", user.token)
        free = not disk.spec.HasField("claim_ref") and not live.spec.HasField("machine_ref")
        return free and not live.spec.provider_id

    await eventually(released, within=WITHIN)


async def test_a_retained_public_address_outlives_its_interface(user: User) -> None:
    nic = interface(user, "blue")
    template = nic.spec.virtual_ip.ephemeral.virtual_ip_template.spec
    template.type, template.ip_family, template.reclaim_policy = "Public", "IPv4", "Retain"
    await user.client.create(nic)

    async def target() -> str:
        return (await user.client.get(VirtualIP, "nic", user.token)).spec.target_ref.uid

    await eventually(target, within=WITHIN)
    await user.client.delete(NetworkInterface, "nic", user.token)

    async def free() -> bool:
        return not await target()

    await eventually(free, within=WITHIN)


async def test_a_pool_whose_heartbeat_stops_is_unknown(server: CoreServer, user: User) -> None:
    grace = f"--machine-pool-lifecycle-grace-period={GRACE}"
    quick = Controllers(server, "lifecycle", "--controllers=machinepoollifecycle", "--no-leader-elect", grace)
    pool = await user.pool("p", 1)
    lease = Lease(metadata=ObjectMeta(name=pool, namespace="ironcore-machinepool-lease"))
    lease = await user.client.create(lease)
    quick.start()
    try:

        async def ready() -> Condition:
            conditions = (await user.client.get(MachinePool, pool)).status.conditions
            found = find_condition(conditions, "Ready")
            assert found is not None
            return found

        # As a poollet beats: for longer than the process needs to start and the grace period to pass.
        now = asyncio.get_running_loop().time
        beat, until = 0, math.inf
        while now() < until:
            beat += 1
            lease.spec.renew_time.CopyFrom(micro_time(1_000_000.0 + beat))
            lease = await user.client.update(lease)
            await asyncio.sleep(0.2)
            assert (await ready()).status == "True"
            if until == math.inf and "controllers started" in quick.log.read_text():
                until = now() + GRACE + 1

        async def silent() -> bool:
            return (await ready()).status == "Unknown"

        await eventually(silent, within=WITHIN)
        assert (await ready()).reason == "MachinePoolStatusUnknown"
    finally:
        assert quick.stop() == 0
    await user.client.create(user.machine("m"))

    async def refused() -> str:
        conditions = (await user.client.get(Machine, "m", user.token)).status.conditions
        return "".join(condition.reason for condition in conditions)

    assert await eventually(refused) == "NoPoolReady"
