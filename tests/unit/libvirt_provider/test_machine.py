"""What may be asked of a machine, and what its record says afterwards."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.model import machine as rules
from services.libvirt_provider.model.classes import MachineClass
from services.libvirt_provider.model.machine import Record
from services.libvirt_provider.model.refusals import AlreadyExists, Invalid, NotFound, NotNow, Refusal
from services.libvirt_provider.model.state import machine_state, observe, set_ready
from services.libvirt_provider.store import MachineStore

TINY = MachineClass("tiny", {"cpu": 2, "memory": 1 << 30})
NOW = 1_700_000_000 * 10**9
RUNNING, PAUSED, STOPPING = 1, 3, 4


def local(name: str = "data", device: str = "odb", **disk: Any) -> pb.Volume:
    return pb.Volume(name=name, device=device, local_disk=pb.LocalDisk(**disk))


def ceph(name: str = "data", device: str = "odb", size: int = 1 << 30, **changes: Any) -> pb.Volume:
    connection = pb.VolumeConnection(
        driver="ceph",
        handle="0123456789abcdef",
        attributes={"monitors": "10.0.0.1:6789,[fd00::1]:3300", "image": "pool/img_1"},
        secret_data={"userID": b"tenant", "userKey": b"QUJD"},
        effective_storage_bytes=size,
    )
    connection.MergeFrom(pb.VolumeConnection(**changes))
    return pb.Volume(name=name, device=device, connection=connection)


def record(*volumes: pb.Volume, nics: tuple[str, ...] = ()) -> Record:
    asked = pb.Machine()
    asked.metadata.labels["team"] = "blue"
    asked.spec.volumes.extend([local("root", "oda"), *volumes])
    asked.spec.network_interfaces.extend(pb.NetworkInterface(name=name) for name in nics)
    return rules.new_record(asked, TINY, "id-1", NOW)


def test_a_new_machine_has_its_class_and_our_id() -> None:
    made = record(nics=("nic0",))
    assert (made.id, made.cpus, made.memory) == ("id-1", 2, 1 << 30)
    assert made.machine.metadata.created_at == NOW
    assert made.machine.metadata.labels == {"team": "blue"}
    assert made.machine.status == pb.MachineStatus(state=pb.MACHINE_PENDING)
    assert not made.wanted_off


@pytest.mark.parametrize(
    ("change", "refusal", "says"),
    [
        pytest.param(lambda r: rules.attach_volume(r, local("x", "")), Invalid, "volume.device", id="no device"),
        pytest.param(lambda r: rules.attach_volume(r, local("x", "odb1")), Invalid, "volume.device", id="a partition"),
        pytest.param(lambda r: rules.attach_volume(r, local("../x")), Invalid, "volume.name", id="a path as name"),
        pytest.param(lambda r: rules.attach_volume(r, pb.Volume(name="x", device="odb")), Invalid, "either local_disk",
                     id="neither local nor remote"),
        pytest.param(lambda r: rules.attach_volume(r, local(size_bytes=-1)), Invalid, "size_bytes", id="negative size"),
        pytest.param(lambda r: rules.attach_volume(r, local(image=pb.ImageSpec(image="web"))), Invalid, "image.image",
                     id="image without registry"),
        pytest.param(lambda r: rules.attach_volume(r, local("root", "odc")), AlreadyExists, "root", id="name in use"),
        pytest.param(lambda r: rules.attach_volume(r, local("x", "oda")), NotNow, "'oda'", id="device in use"),
        pytest.param(lambda r: rules.attach_volume(r, ceph(driver="nfs")), Invalid, "connection.driver", id="nfs"),
        pytest.param(lambda r: rules.attach_volume(r, ceph(attributes={"monitors": "a"})), Invalid, "monitors",
                     id="monitor without port"),
        pytest.param(lambda r: rules.attach_volume(r, ceph(attributes={"monitors": "a:1,b:70000"})), Invalid, "entry 1",
                     id="monitor with impossible port"),
        pytest.param(lambda r: rules.attach_volume(r, ceph(attributes={"image": "img"})), Invalid, "pool/name",
                     id="image without pool"),
        pytest.param(lambda r: rules.attach_volume(r, ceph(secret_data={"userKey": b"%"})), Invalid, "userKey",
                     id="key that is not base64"),
        pytest.param(lambda r: rules.attach_volume(r, ceph(encryption_data={"x": b"y"})), Invalid, "encryptionKey",
                     id="encryption without key"),
        pytest.param(lambda r: rules.attach_volume(r, ceph(size=0)), Invalid, "effective_storage_bytes", id="no size"),
        pytest.param(lambda r: rules.detach_volume(r, "none"), NotFound, "none", id="unknown volume"),
        pytest.param(lambda r: rules.update_volume(r, ceph("none")), NotFound, "none", id="unknown, updated"),
        pytest.param(lambda r: rules.update_volume(r, ceph("root")), Invalid, "connection", id="local, updated"),
        pytest.param(lambda r: rules.attach_nic(r, pb.NetworkInterface(name="a b")), Invalid, "name", id="nic name"),
        pytest.param(lambda r: rules.attach_nic(r, pb.NetworkInterface(name="nic1", ips=["10.0.0.300"])), Invalid,
                     "ips[0]", id="nic address"),
        pytest.param(lambda r: rules.attach_nic(r, pb.NetworkInterface(name="nic0")), AlreadyExists, "nic0",
                     id="nic name in use"),
        pytest.param(lambda r: rules.detach_nic(r, "none"), NotFound, "none", id="unknown nic"),
        pytest.param(lambda r: rules.set_power(r, 7, NOW), Invalid, "power", id="unknown power"),
    ],
)  # fmt: skip
def test_refusals_change_nothing(change: Callable[[Record], None], refusal: type[Refusal], says: str) -> None:
    before = record(nics=("nic0",))
    after = copy.deepcopy(before)
    with pytest.raises(refusal) as refused:
        change(after)
    assert says in str(refused.value)
    assert after == before


def test_a_detached_volume_stays_known_until_it_is_gone() -> None:
    made = record(local())
    rules.detach_volume(made, "data")
    assert [volume.name for volume in made.machine.spec.volumes] == ["root"]
    assert [volume.name for volume in made.leaving_volumes] == ["data"]
    with pytest.raises(NotNow):
        rules.attach_volume(made, local())
    with pytest.raises(NotNow):
        rules.attach_volume(made, local("other", "odb"))
    rules.attach_volume(made, local("other", "odc"))


def test_a_volume_grows_and_never_shrinks() -> None:
    made = record(ceph(size=10 << 30))
    rules.update_volume(made, ceph(size=20 << 30))
    assert made.machine.spec.volumes[1].connection.effective_storage_bytes == 20 << 30
    for wrong in (ceph(size=10 << 30), ceph(size=20 << 30, handle="another")):
        with pytest.raises(Invalid):
            rules.update_volume(made, wrong)


def test_power_and_deletion_remember_when_they_began() -> None:
    made = record()
    rules.set_power(made, pb.POWER_OFF, NOW + 1)
    rules.set_power(made, pb.POWER_OFF, NOW + 2)
    assert (made.wanted_off, made.off_since) == (True, NOW + 1)
    rules.set_power(made, pb.POWER_ON, NOW + 3)
    assert (made.wanted_off, made.off_since) == (False, 0)
    rules.mark_deleted(made, NOW + 4)
    rules.mark_deleted(made, NOW + 5)
    assert (made.wanted_off, made.off_since) == (True, NOW + 4)
    with pytest.raises(NotNow):
        rules.attach_volume(made, local())


@pytest.mark.parametrize(
    ("change", "domain", "state"),
    [
        pytest.param(lambda r: None, None, pb.MACHINE_PENDING, id="not started yet"),
        pytest.param(lambda r: None, RUNNING, pb.MACHINE_RUNNING, id="running"),
        pytest.param(lambda r: None, PAUSED, pb.MACHINE_PENDING, id="paused by the hypervisor"),
        pytest.param(lambda r: rules.set_power(r, pb.POWER_OFF, NOW), RUNNING, pb.MACHINE_RUNNING, id="still running"),
        pytest.param(lambda r: rules.set_power(r, pb.POWER_OFF, NOW), STOPPING, pb.MACHINE_TERMINATING, id="shutting"),
        pytest.param(lambda r: rules.set_power(r, pb.POWER_OFF, NOW), None, pb.MACHINE_STOPPED, id="off"),
        pytest.param(lambda r: rules.mark_deleted(r, NOW), RUNNING, pb.MACHINE_TERMINATING, id="deleting"),
        pytest.param(lambda r: rules.mark_deleted(r, NOW), None, pb.MACHINE_TERMINATED, id="cleaning up"),
    ],
)  # fmt: skip
def test_state(change: Callable[[Record], None], domain: int | None, state: int) -> None:
    made = record()
    change(made)
    assert machine_state(made, domain) == state


def test_the_status_lists_what_was_seen_in_the_order_of_the_spec() -> None:
    made = record(local("data", "odb"), local("more", "odc"), nics=("nic1", "nic0"))
    rules.detach_volume(made, "data")
    observe(made, RUNNING, {"root", "data"}, {"nic0"}, {("volume", "root"): "h-root", ("nic", "nic0"): "h-nic"})
    observe(made, RUNNING, {"root", "data"}, {"nic0"}, {})  # handles are kept
    assert [(each.name, each.handle, each.state) for each in made.machine.status.volumes] == [
        ("root", "h-root", pb.VOLUME_ATTACHED),
        ("more", "", pb.VOLUME_PENDING),
        ("data", "", pb.VOLUME_ATTACHED),
    ]
    assert [(each.name, each.handle, each.state) for each in made.machine.status.network_interfaces] == [
        ("nic1", "", pb.NETWORK_INTERFACE_PENDING),
        ("nic0", "h-nic", pb.NETWORK_INTERFACE_ATTACHED),
    ]


def test_the_ready_condition_keeps_its_transition_time() -> None:
    made = record()
    set_ready(made, ready=False, reason="PullingImage", message="a", now=1)
    set_ready(made, ready=False, reason="NetworkInterfaceNotReady", message="b", now=2)
    (condition,) = made.machine.status.machine_conditions
    assert (condition.status, condition.reason, condition.last_transition_time) == (
        "False",
        "NetworkInterfaceNotReady",
        1,
    )
    set_ready(made, ready=True, reason="Converged", message="", now=3)
    assert (condition.status, condition.last_transition_time) == ("True", 3)


async def test_the_store_keeps_what_it_was_given(tmp_path: Path) -> None:
    store = MachineStore(tmp_path)
    store.load()
    woken: list[str] = []
    store.on_change(woken.append)
    await store.create(record(ceph(), nics=("nic0",)))
    await store.update("id-1", lambda r: rules.detach_volume(r, "data"))
    await store.update("id-1", lambda r: None)
    await store.observe("id-1", lambda r: r.image_digests.update(a="sha256:b"))
    await store.observe("unknown", lambda r: None)
    with pytest.raises(NotFound):
        await store.update("unknown", lambda r: None)
    assert woken == ["id-1", "id-1"]
    assert (tmp_path / "id-1").stat().st_mode & 0o777 == 0o600

    again = MachineStore(tmp_path)
    again.load()
    kept = again.get("id-1")
    assert kept == store.get("id-1")
    assert kept is not None
    assert kept.revision == 2
    assert [volume.name for volume in kept.leaving_volumes] == ["data"]
    await again.remove("id-1")
    await again.remove("id-1")
    assert os.listdir(tmp_path) == []


async def test_a_broken_file_is_put_aside_and_a_torn_write_forgotten(tmp_path: Path) -> None:
    store = MachineStore(tmp_path)
    store.load()
    await store.create(record())
    (tmp_path / "id-2").write_text('{"version": 1')
    (tmp_path / ".id-3").write_text("torn")
    again = MachineStore(tmp_path)
    again.load()
    assert [each.id for each in again] == ["id-1"]
    assert sorted(os.listdir(tmp_path)) == ["id-1", "id-2.broken"]


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "id-1").write_text('{"version": 99}')
    with pytest.raises(RuntimeError, match="version 99"):
        MachineStore(tmp_path).load()
