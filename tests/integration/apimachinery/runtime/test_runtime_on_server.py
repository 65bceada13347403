"""Leadership, events and kills over a real server."""

from __future__ import annotations

import asyncio

from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.events.v1.event_pb2 import Event
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.interface import Client
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.election import Timing
from services.apimachinery.runtime.leader import LeaderElection
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.recorder import EventRecorder
from tests.support.apiserver import TestServer
from tests.support.copies import KEY, Copies, copies_process
from tests.support.eventually import eventually
from tests.support.kills import survives_kills

TIMING = Timing(lease=2.0, renew_deadline=1.0, retry=0.1)


def secret(*finalizers: str) -> Secret:
    return Secret(metadata=ObjectMeta(name=KEY.name, namespace=KEY.namespace, finalizers=finalizers))


async def test_reconcilers_work_only_in_the_leading_process(client: Client) -> None:
    managers = [
        Manager(client, leader=LeaderElection(client, "copies", "default", identity=name, timing=TIMING))
        for name in ("one", "two")
    ]
    for manager in managers:
        manager.add(Copies(manager))
    tasks = [asyncio.create_task(manager.run()) for manager in managers]
    await client.create(secret())
    await eventually(lambda: client.get(ConfigMap, KEY.name, KEY.namespace))
    leader = (await client.get(Lease, "copies", "default")).spec.holder_identity
    first = ["one", "two"].index(leader)
    tasks[first].cancel()
    await asyncio.wait([tasks[first]])
    await client.delete(ConfigMap, KEY.name, KEY.namespace)
    await eventually(lambda: client.get(ConfigMap, KEY.name, KEY.namespace))
    assert (await client.get(Lease, "copies", "default")).spec.holder_identity == ["two", "one"][first]
    tasks[1 - first].cancel()
    await asyncio.wait(tasks)


async def test_events_are_stored_and_counted(client: Client) -> None:
    obj = await client.create(secret())
    recorder = EventRecorder(client, "ferrite.test/copies")
    for _ in range(2):
        recorder.event(obj, "Warning", "NoRoom", "nothing fits: größer", action="Copy")
        await recorder.flush()
    (event,) = (await client.list(Event, KEY.namespace)).items
    assert (event.reason, event.note, event.series.count) == ("NoRoom", "nothing fits: größer", 2)
    assert event.regarding.uid == obj.metadata.uid


async def test_a_reconciler_survives_a_kill_at_each_await(server: TestServer) -> None:
    client = server.client("grpc")

    async def clean() -> None:
        for obj in (await client.list(Secret)).items:
            await client.patch(Secret, obj.metadata.name, {"metadata": {"finalizers": None}}, KEY.namespace)
            await _gone(client.delete(Secret, obj.metadata.name, KEY.namespace))
        await _gone(client.delete(ConfigMap, KEY.name, KEY.namespace))

    async def to_create() -> Client:
        await clean()
        await client.create(secret())
        return client

    async def created(world: Client) -> None:
        await world.get(ConfigMap, KEY.name, KEY.namespace)

    async def to_delete() -> Client:
        await clean()
        await client.create(secret(Copies.FINALIZER))
        await client.create(ConfigMap(metadata=ObjectMeta(name=KEY.name, namespace=KEY.namespace)))
        await client.delete(Secret, KEY.name, KEY.namespace)
        return client

    async def deleted(world: Client) -> None:
        assert (await world.list(Secret)).items == []
        assert (await world.list(ConfigMap)).items == []

    assert await survives_kills(to_create, copies_process, created) >= 2
    assert await survives_kills(to_delete, copies_process, deleted) >= 2
    await client.close()


async def _gone(deletion: object) -> None:
    try:
        await deletion  # type: ignore[misc]
    except NotFound:
        pass
