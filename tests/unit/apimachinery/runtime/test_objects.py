"""Conditions, finalizers and owner references."""

from __future__ import annotations

import pytest

from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.errors import Conflict
from services.apimachinery.runtime.conditions import find_condition, is_true, remove_condition, set_condition
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.owners import (
    AlreadyOwned,
    controller_of,
    is_controlled_by,
    set_controller_reference,
    set_owner_reference,
)
from tests.support.memory_client import MemoryClient


@pytest.mark.parametrize(
    ("status", "reason", "at", "changed", "since"),
    [
        pytest.param("True", "Up", 20, False, 10, id="the same again changes nothing"),
        pytest.param("True", "Tired", 20, True, 10, id="another reason leaves the transition time"),
        pytest.param("False", "Up", 20, True, 20, id="another status moves the transition time"),
    ],
)
def test_set_condition(status: str, reason: str, at: float, changed: bool, since: int) -> None:
    pool = MachinePool()
    assert set_condition(pool.status.conditions, "Ready", "True", "Up", now=10)
    assert set_condition(pool.status.conditions, "Ready", status, reason, now=at) is changed
    (condition,) = pool.status.conditions
    assert (condition.status, condition.reason, condition.last_transition_time.seconds) == (status, reason, since)


def test_conditions_are_found_and_removed_by_type() -> None:
    conditions = MachinePool().status.conditions
    set_condition(conditions, "Ready", "True", "Up", now=1)
    set_condition(conditions, "Full", "False", "Room", now=1)
    assert is_true(conditions, "Ready")
    assert not is_true(conditions, "Full")
    assert not is_true(conditions, "Unknown")
    assert remove_condition(conditions, "Ready")
    assert not remove_condition(conditions, "Ready")
    assert find_condition(conditions, "Ready") is None


def test_a_condition_status_is_one_of_three_words() -> None:
    with pytest.raises(ValueError, match="condition Ready: status 'yes'"):
        set_condition(MachinePool().status.conditions, "Ready", "yes", "Up")


def secret(name: str, uid: str = "") -> Secret:
    return Secret(metadata=ObjectMeta(namespace="default", name=name, uid=uid))


async def test_finalizers_hold_an_object_until_the_last_is_removed() -> None:
    client = MemoryClient()
    held = await client.create(secret("s"))
    held = await ensure_finalizer(client, held, "a.test/one")
    assert await ensure_finalizer(client, held, "a.test/one") is held
    held = await ensure_finalizer(client, held, "a.test/two")
    await client.delete(Secret, "s", "default")
    deleting = await client.get(Secret, "s", "default")
    assert has_finalizer(deleting, "a.test/one")
    left = await remove_finalizer(client, deleting, "a.test/one")
    assert left is not None
    await remove_finalizer(client, left, "a.test/two")
    assert (await client.list(Secret)).items == []
    assert await remove_finalizer(client, left, "a.test/two") is None


async def test_two_writers_of_finalizers_do_not_undo_each_other() -> None:
    client = MemoryClient()
    read = await client.create(secret("s"))
    await ensure_finalizer(client, read, "a.test/one")
    with pytest.raises(Conflict):
        await ensure_finalizer(client, read, "a.test/two")


def test_one_controller_and_any_number_of_owners() -> None:
    owner, other, obj = secret("owner", "u1"), secret("other", "u2"), ConfigMap()
    set_controller_reference(owner, obj)
    set_controller_reference(owner, obj)
    set_owner_reference(other, obj)
    assert [reference.name for reference in obj.metadata.owner_references] == ["owner", "other"]
    controller = controller_of(obj)
    assert controller is not None
    assert (controller.api_version, controller.kind, controller.block_owner_deletion) == ("v1", "Secret", True)
    assert is_controlled_by(obj, owner)
    assert not is_controlled_by(obj, secret("owner", "made anew"))
    with pytest.raises(AlreadyOwned, match="Secret owner"):
        set_controller_reference(other, obj)


def test_an_object_that_is_not_stored_owns_nothing() -> None:
    with pytest.raises(ValueError, match="no uid"):
        set_controller_reference(secret("owner"), ConfigMap())
