"""The volumepoollet as a process, between a real API server and a runtime that the test plays."""

from __future__ import annotations

from typing import Any

import grpc

from protos.iri.volume.v1alpha1 import volume_pb2 as iri
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.storage.v1alpha1.volume_pb2 import Volume
from protos.storage.v1alpha1.volume_pool_pb2 import VolumePool
from services.apimachinery.runtime.conditions import find_condition
from services.core.poollets.keys import VOLUME
from tests.integration.core.poollets.conftest import Cell


def available(volume: Volume) -> bool:
    return volume.status.state == "Available"


def reason_is(reason: str) -> Any:
    def look(volume: Volume) -> bool:
        condition = find_condition(volume.status.conditions, "Ready")
        return condition is not None and condition.reason == reason

    return look


async def test_a_volume_gets_its_access_grows_and_goes(volumes: Cell) -> None:
    await volumes.volume("v", "1Gi")
    ready = await volumes.seen(Volume, "v", available)
    assert reason_is("Available")(ready)
    assert (ready.status.access.driver, ready.status.resources["storage"]) == ("test", "1Gi")
    secret = await volumes.get(Secret, ready.status.access.secret_ref.name)
    assert dict(secret.data) == {"userKey": b"first"}
    assert [owner.uid for owner in secret.metadata.owner_references] == [ready.metadata.uid]

    await volumes.client.patch(Volume, "v", {"spec": {"resources": {"storage": "2Gi"}}}, volumes.token)
    await volumes.seen(Volume, "v", lambda v: v.status.resources["storage"] == "2Gi")
    assert volumes.runtime.calls["ExpandVolume"] == 1

    # A secret spoiled by hand is put right.
    await volumes.client.patch(Secret, secret.metadata.name, {"data": {"userKey": "eA=="}}, volumes.token)
    await volumes.seen(Secret, secret.metadata.name, lambda s: s.data["userKey"] == b"first")

    # In error there is no access, and no secret.
    volumes.runtime.only().status.state = iri.VOLUME_ERROR
    failed = await volumes.seen(Volume, "v", lambda v: v.status.state == "Error")
    assert not failed.status.HasField("access")
    await volumes.gone(Secret, secret.metadata.name)

    volumes.runtime.slow_deletion = True
    await volumes.client.delete(Volume, "v", volumes.token)
    await volumes.happens(lambda: volumes.runtime.only().metadata.deleted_at)
    volumes.runtime.finish_deletions()
    await volumes.gone(Volume, "v")


async def test_a_waiting_volume_is_woken_by_its_secret_and_says_so(volumes: Cell) -> None:
    volume = Volume(metadata=ObjectMeta(name="v", namespace=volumes.token))
    volume.spec.volume_class_ref.name = volume.spec.volume_pool_ref.name = volumes.token
    volume.spec.resources["storage"] = "1Gi"
    volume.spec.encryption.secret_ref.name = "key"
    await volumes.client.create(volume)
    await volumes.seen(Volume, "v", reason_is("VolumeEncryptionSecretNotReady"))
    key = Secret(metadata=ObjectMeta(name="key", namespace=volumes.token), data={"encryptionKey": b"k" * 32})
    await volumes.client.create(key)
    await volumes.seen(Volume, "v", lambda v: available(v) and reason_is("Available")(v))
    assert dict(volumes.runtime.only().spec.encryption.secret_data) == {"encryptionKey": b"k" * 32}


async def test_killed_while_it_creates_there_is_one_volume(volumes: Cell) -> None:
    volumes.runtime.answer_creations.clear()
    await volumes.volume("v")
    await volumes.happens(lambda: volumes.runtime.calls["CreateVolume"])
    volumes.poollet.kill()
    volumes.runtime.answer_creations.set()
    volumes.poollet.start()
    await volumes.seen(Volume, "v", available)
    assert volumes.runtime.calls["CreateVolume"] == len(volumes.runtime.objects) == 1


async def test_volumes_without_an_object_go_but_not_those_of_another_pool(volumes: Cell) -> None:
    elsewhere = Volume(metadata=ObjectMeta(name="elsewhere", namespace=volumes.token))
    elsewhere.spec.volume_class_ref.name, elsewhere.spec.volume_pool_ref.name = volumes.token, "another-pool"
    elsewhere.spec.resources["storage"] = "1Gi"
    elsewhere = await volumes.client.create(elsewhere)
    foreign = volumes.runtime.add(iri.Volume())
    foreign.metadata.labels.update(VOLUME.labels(elsewhere.metadata))
    orphan = volumes.runtime.add(iri.Volume())
    orphan.metadata.labels.update({VOLUME.uid: "u", VOLUME.namespace: volumes.token, VOLUME.name: "gone"})
    await volumes.happens(lambda: list(volumes.runtime.objects) == [foreign.metadata.id])


async def test_a_refused_expansion_does_not_hide_the_state(volumes: Cell) -> None:
    await volumes.volume("v", "1Gi")
    await volumes.seen(Volume, "v", available)
    volumes.runtime.refuse("ExpandVolume", grpc.StatusCode.RESOURCE_EXHAUSTED, "the pool is full")
    await volumes.client.patch(Volume, "v", {"spec": {"resources": {"storage": "2Gi"}}}, volumes.token)
    await volumes.happens(lambda: volumes.runtime.calls["ExpandVolume"])
    volumes.runtime.only().status.state = iri.VOLUME_ERROR
    await volumes.seen(Volume, "v", lambda v: v.status.state == "Error")
    volumes.runtime.allow("ExpandVolume")
    await volumes.seen(Volume, "v", lambda v: v.status.resources["storage"] == "2Gi")


async def test_the_pool_publishes_bytes(volumes: Cell) -> None:
    resource = f"class/volume.{volumes.token}"

    async def published(allocatable: str) -> None:
        async def look() -> bool:
            pool = await volumes.client.get(VolumePool, volumes.token)
            if pool.status.allocatable[resource] == allocatable and pool.status.state == "Available":
                return True
            raise AssertionError(str(pool.status))

        await volumes.happens(look)

    await published("10Gi")
    await volumes.volume("v", "3Gi")
    await published("7Gi")
    await volumes.client.delete(Volume, "v", volumes.token)
    await published("10Gi")
