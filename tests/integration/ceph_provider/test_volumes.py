"""The runtime interface on a real Ceph."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import rbd

from protos.iri.volume.v1alpha1 import volume_pb2 as pb
from services.ceph_provider.model import names
from services.ceph_provider.model.classes import VolumeClass, limits
from tests.integration.ceph_provider.harness import (
    GIB,
    MIB,
    POOL,
    Ceph,
    Runtime,
    credentials,
    image_of,
    volume,
)
from tests.support.eventually import eventually

UNKNOWN = "0" * 63


async def test_create_until_available(runtime: Runtime, ceph: Ceph) -> None:
    before = time.time_ns()
    made = await runtime.create(1024, team="a")
    assert made.status.state == pb.VOLUME_PENDING
    assert not made.status.HasField("access")
    assert names.is_id(made.metadata.id)
    assert before <= made.metadata.created_at <= time.time_ns()

    got = await runtime.available(made.metadata.id)
    user, key = credentials(got)
    assert (dict(got.metadata.labels), dict(got.metadata.annotations)) == ({"team": "a"}, {"note": "kept"})
    assert (getattr(got.spec, "class"), got.spec.resources.storage_bytes) == ("foo", 1024)
    assert got.status.resources.storage_bytes == MIB
    assert got.status.access.driver == "ceph"
    assert dict(got.status.access.attributes) == {
        "monitors": ceph.access.monitors,
        "image": f"{POOL}/img_{made.metadata.id}",
    }

    record = ceph.records()[made.metadata.id]
    wwn = record["spec"]["wwn"]
    assert got.status.access.handle == wwn
    assert len(wwn) == 16
    assert record["metadata"]["labels"] == {names.CLASS_LABEL: "foo", names.MANAGER_LABEL: names.MANAGER}
    assert json.loads(record["metadata"]["annotations"][names.LABELS_ANNOTATION]) == {"team": "a"}
    wanted_limits = limits(VolumeClass("foo", 262144000, 15000))
    assert (record["spec"]["size"], record["spec"]["limits"]) == (1024, wanted_limits)
    assert record["status"] == {
        "state": "Available",
        "encryption": "",
        "size": MIB,
        "access": {
            "monitors": ceph.access.monitors,
            "handle": f"{POOL}/img_{made.metadata.id}",
            "user": user,
            "userKey": key,
        },
    }
    with ceph.pool() as pool, rbd.Image(pool, image_of(got), read_only=True) as image:
        assert image.size() == MIB
        options = {f"conf_{name}": str(value) for name, value in wanted_limits.items()}
        assert dict(image.metadata_list()) == {"wwn": wwn, **options}
        enforced = {each["name"]: each["value"] for each in image.config_list() if each["source"] == 2}
        assert enforced["rbd_qos_iops_limit"] == "15000"


async def test_a_volumes_user_opens_its_own_image_only(runtime: Runtime, ceph: Ceph) -> None:
    ids = [(await runtime.create(64 * MIB)).metadata.id for _ in range(2)]
    mine, other = [await runtime.available(each) for each in ids]
    with ceph.pool(*credentials(mine)) as pool:
        with rbd.Image(pool, image_of(mine)) as image:
            image.write(b"mine", 5 * MIB)
            image.flush()
            assert image.read(5 * MIB, 4) == b"mine"
            image.discard(0, 8 * MIB)
        with pytest.raises(rbd.PermissionError):
            rbd.Image(pool, image_of(other))
        with pytest.raises(rbd.PermissionError):
            rbd.Image(pool, image_of(other), read_only=True)
        with pytest.raises(rbd.PermissionError):
            rbd.RBD().list(pool)
        with pytest.raises(rbd.PermissionError):
            rbd.RBD().remove(pool, image_of(other))
    with ceph.pool() as pool, rbd.Image(pool, image_of(other), read_only=True) as image:
        prefix = image.block_name_prefix()
    with ceph.pool(*credentials(mine)) as pool:
        for refused in (
            lambda: pool.write(f"{prefix}.0000000000000000", b"x"),
            lambda: pool.read(f"{prefix}.0000000000000000"),
            lambda: pool.stat(names.VOLUMES_OBJECT),
            lambda: pool.write(f"{image_of(mine)}", b"x"),
        ):
            with pytest.raises(Exception, match=r"(?i)permission|not permitted"):
                refused()


async def test_qemu_writes_with_the_volumes_user(runtime: Runtime) -> None:
    made = await runtime.available((await runtime.create(64 * MIB)).metadata.id)
    other = await runtime.available((await runtime.create(64 * MIB)).metadata.id)
    written = await qemu_io(made, made, "write -P 0x5a 1M 64k")
    assert written.returncode == 0, written.stdout
    read = await qemu_io(made, made, "read -P 0x5a 1M 64k")
    assert read.returncode == 0, read.stdout
    assert "verification failed" not in read.stdout
    refused = await qemu_io(made, other, "read 0 4k")
    assert refused.returncode != 0
    assert "not permitted" in refused.stdout


async def test_expand_grows_the_image_under_its_user(runtime: Runtime, ceph: Ceph) -> None:
    made = await runtime.available((await runtime.create(GIB)).metadata.id)
    with ceph.pool(*credentials(made)) as pool, rbd.Image(pool, image_of(made)) as image:
        await runtime.expand(made.metadata.id, GIB * 3 // 2)

        async def grown() -> bool:
            got = await runtime.get(made.metadata.id)
            return got is not None and got.status.resources.storage_bytes == 2 * GIB

        await eventually(grown, within=20)
        await eventually(lambda: image.size() == 2 * GIB, within=20)
    got = await runtime.available(made.metadata.id)
    assert got.spec.resources.storage_bytes == GIB * 3 // 2
    reasons = [each.reason for each in await runtime.events(id=made.metadata.id)]
    assert "UpdatedImageSizeSucceeded" in reasons


async def test_delete_removes_record_image_and_user(runtime: Runtime, ceph: Ceph) -> None:
    made = await runtime.available((await runtime.create()).metadata.id)
    assert (len(ceph.images()), ceph.users()) == (1, [f"client.volume-{made.metadata.id}"])
    await runtime.delete(made.metadata.id)
    await runtime.gone(made.metadata.id)
    assert (ceph.records(), ceph.images(), ceph.users()) == ({}, [], [])
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await runtime.delete(made.metadata.id)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    reasons = [each.reason for each in await runtime.events(id=made.metadata.id)]
    assert reasons == ["EmptyImageCreationSucceeded", "SetImageLimitSucceeded", "ImageDeletionSucceeded"]


async def test_delete_waits_for_who_has_the_image_open(runtime: Runtime, ceph: Ceph) -> None:
    made = await runtime.available((await runtime.create(64 * MIB)).metadata.id)
    with ceph.pool(*credentials(made)) as pool, rbd.Image(pool, image_of(made)) as image:
        image.write(b"before", 0)
        await runtime.delete(made.metadata.id)

        async def told() -> bool:
            return any(each.reason == "ImageInUse" for each in await runtime.events(id=made.metadata.id))

        await eventually(told, within=20)
        image.write(b"after", 4096)
        image.flush()
        got = await runtime.get(made.metadata.id)
        assert got is not None
        assert got.metadata.deleted_at > got.metadata.created_at
        assert credentials(got)[0] in ceph.users()[0]
    await runtime.gone(made.metadata.id)


async def test_list_by_id_and_labels(runtime: Runtime) -> None:
    one = await runtime.create(MIB, team="a", tier="x")
    two = await runtime.create(MIB, team="a", tier="y")

    async def ids(volume_id: str = "", **labels: str) -> list[str]:
        return [each.metadata.id for each in await runtime.list(volume_id, **labels)]

    first, second = one.metadata.id, two.metadata.id
    assert await ids() == [first, second]
    assert await ids(first) == [first]
    assert await ids(team="a") == [first, second]
    assert await ids(team="a", tier="y") == [second]
    assert await ids(first, tier="y") == []
    assert await ids(team="b") == []
    assert await ids(UNKNOWN) == []
    assert await ids("no id") == []
    assert await ids(f"{first}\0x") == []


async def test_concurrent_creates_with_one_uid_make_one_volume(runtime: Runtime, ceph: Ceph) -> None:
    uid = {names.UID_LABEL: "4711"}
    made = await asyncio.gather(*(runtime.create(GIB, **uid) for _ in range(8)))
    assert len({each.metadata.id for each in made}) == 1
    got = await runtime.available(made[0].metadata.id)
    again = await runtime.create(GIB, **uid)
    assert again == got
    assert len(ceph.images()) == len(ceph.users()) == 1
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await runtime.create(2 * GIB, **uid)
    assert error.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_concurrent_creates_with_different_uids_never_mix(runtime: Runtime) -> None:
    made = await asyncio.gather(*(runtime.create(MIB, **{names.UID_LABEL: f"{number}"}) for number in range(6)))
    got = [await runtime.available(each.metadata.id) for each in made]
    assert [each.metadata.labels[names.UID_LABEL] for each in got] == [f"{number}" for number in range(6)]
    assert len({each.status.access.handle for each in got}) == 6


async def test_status_is_what_ceph_reports(runtime: Runtime, ceph: Ceph) -> None:
    async def figures() -> tuple[list[tuple[str, int, int]], set[int], int]:
        offered = await runtime.status()
        pools = {each["name"]: each["stats"] for each in ceph.command("df")["pools"]}
        classes = [
            (each.volume_class.name, each.volume_class.capabilities.tps, each.volume_class.capabilities.iops)
            for each in offered
        ]
        return classes, {each.quantity for each in offered}, pools[POOL]["max_avail"] + pools[POOL]["stored"]

    async def agreed() -> bool:
        # The manager renews its figures every few seconds, perhaps between the two questions.
        classes, quantities, wanted = await figures()
        assert classes == [("foo", 262144000, 15000), ("bar", 1048576, 100)]
        return quantities == {wanted}

    await eventually(agreed, within=20)


async def test_version_and_snapshots(runtime: Runtime) -> None:
    answer = await runtime.stub.Version(pb.VersionRequest(version="1"), timeout=10)
    assert answer.runtime_name == "ceph-provider"
    assert answer.runtime_version.count(".") == 2
    for call, request in (
        (runtime.stub.CreateVolumeSnapshot, pb.CreateVolumeSnapshotRequest()),
        (runtime.stub.DeleteVolumeSnapshot, pb.DeleteVolumeSnapshotRequest()),
        (runtime.stub.ListVolumeSnapshots, pb.ListVolumeSnapshotsRequest()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(request, timeout=10)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def encrypted() -> pb.Volume:
    wanted = volume(GIB, "foo", {})
    wanted.spec.encryption.secret_data["encryptionKey"] = b"secret"
    return wanted


@pytest.mark.parametrize(
    ("call", "request_", "code", "named"),
    [
        pytest.param("CreateVolume", pb.CreateVolumeRequest(), "INVALID_ARGUMENT", "volume", id="no volume"),
        pytest.param(
            "CreateVolume",
            pb.CreateVolumeRequest(volume=pb.Volume()),
            "INVALID_ARGUMENT",
            "volume.metadata",
            id="no metadata",
        ),
        pytest.param(
            "CreateVolume",
            pb.CreateVolumeRequest(volume=pb.Volume(metadata={}, spec={})),
            "INVALID_ARGUMENT",
            "volume.spec.resources",
            id="no resources",
        ),
        pytest.param(
            "CreateVolume",
            pb.CreateVolumeRequest(volume=volume(GIB, "gold", {})),
            "INVALID_ARGUMENT",
            "volume class 'gold' not supported",
            id="unknown class",
        ),
        pytest.param(
            "CreateVolume",
            pb.CreateVolumeRequest(volume=volume(0, "foo", {})),
            "INVALID_ARGUMENT",
            "storage_bytes",
            id="no size",
        ),
        pytest.param(
            "CreateVolume",
            pb.CreateVolumeRequest(volume=encrypted()),
            "UNIMPLEMENTED",
            "volume.spec.encryption",
            id="encryption",
        ),
        pytest.param("ExpandVolume", pb.ExpandVolumeRequest(), "INVALID_ARGUMENT", "volume_id", id="expand nothing"),
        pytest.param(
            "ExpandVolume",
            pb.ExpandVolumeRequest(volume_id=UNKNOWN),
            "INVALID_ARGUMENT",
            "resources",
            id="expand without size",
        ),
        pytest.param(
            "ExpandVolume",
            pb.ExpandVolumeRequest(volume_id=UNKNOWN, resources={"storage_bytes": 1}),
            "NOT_FOUND",
            UNKNOWN,
            id="expand an unknown volume",
        ),
        pytest.param("DeleteVolume", pb.DeleteVolumeRequest(), "INVALID_ARGUMENT", "volume_id", id="delete nothing"),
        pytest.param(
            "DeleteVolume", pb.DeleteVolumeRequest(volume_id="a\0b"), "NOT_FOUND", "volume", id="delete an odd id"
        ),
    ],
)
async def test_bad_input(runtime: Runtime, call: str, request_: Any, code: str, named: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await getattr(runtime.stub, call)(request_, timeout=10)
    assert error.value.code().name == code
    assert named in str(error.value.details())
    assert await runtime.list() == []


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda record: "{", id="cut off"),
        pytest.param(lambda record: json.dumps({**record, "spec": {}}), id="without a size"),
    ],
)
async def test_a_broken_record_does_not_hide_the_others(
    runtime: Runtime, ceph: Ceph, spoil: Callable[[Any], str]
) -> None:
    made = await runtime.available((await runtime.create(MIB)).metadata.id)
    ceph.put_record(UNKNOWN, spoil(ceph.records()[made.metadata.id]))
    try:
        assert [each.metadata.id for each in await runtime.list()] == [made.metadata.id]
        assert await runtime.list(UNKNOWN) == []
    finally:
        ceph.drop_record(UNKNOWN)


async def test_records_of_another_writer_are_updated_byte_by_byte(runtime: Runtime, ceph: Ceph) -> None:
    made = await runtime.available((await runtime.create(MIB)).metadata.id)
    record = ceph.records()[made.metadata.id]
    record["metadata"]["annotations"][names.LABELS_ANNOTATION] = '{"name": "größer"}'
    record["spec"]["foreign"] = ["kept"]
    ceph.put_record(made.metadata.id, json.dumps(record, ensure_ascii=False))
    assert (await runtime.list(name="größer"))[0].metadata.id == made.metadata.id
    await runtime.expand(made.metadata.id, 2 * MIB)
    stored = ceph.records()[made.metadata.id]
    assert (stored["spec"]["size"], stored["spec"]["foreign"]) == (2 * MIB, ["kept"])


async def test_a_lost_image_is_an_error_and_not_made_anew(runtime: Runtime, ceph: Ceph) -> None:
    made = await runtime.available((await runtime.create(MIB)).metadata.id)
    with ceph.pool() as pool:
        rbd.RBD().remove(pool, image_of(made))
    await runtime.expand(made.metadata.id, 2 * MIB)

    async def in_error() -> bool:
        got = await runtime.get(made.metadata.id)
        return got is not None and got.status.state == pb.VOLUME_ERROR and not got.status.HasField("access")

    await eventually(in_error, within=20)
    assert ceph.images() == []
    told = [each for each in await runtime.events(id=made.metadata.id) if each.type == "Warning"]
    assert "is missing" in told[-1].message


async def qemu_io(user_of: pb.Volume, target: pb.Volume, command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of qemu-io on the image of `target` with the credentials of `user_of`."""
    user, key = credentials(user_of)
    monitors = target.status.access.attributes["monitors"].replace(":", r"\:")
    file = f"rbd:{POOL}/{image_of(target)}:id={user}:key={key}:mon_host={monitors}:conf=/dev/null"
    return await asyncio.to_thread(
        subprocess.run,
        ["qemu-io", "-f", "raw", "-c", command, file],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
