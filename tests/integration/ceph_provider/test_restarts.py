"""Everything may be killed at any moment: the provider, Ceph's daemons, a consumer; and there may be two providers."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import rbd

from protos.iri.volume.v1alpha1 import volume_pb2 as pb
from services.apimachinery.runtime.reconciler import Key
from services.ceph_provider.cluster import CephAddress, Cluster
from services.ceph_provider.model import names
from services.ceph_provider.model import volume as rules
from services.ceph_provider.model.classes import VolumeClass
from services.ceph_provider.model.record import Record, VolumeState
from services.ceph_provider.reconcile import VolumeReconciler
from services.ceph_provider.recorder import Recorder
from services.ceph_provider.store import VolumeStore
from tests.integration.ceph_provider.harness import (
    GIB,
    MIB,
    POOL,
    SECONDS,
    Ceph,
    Provider,
    Runtime,
    credentials,
    image_of,
    volume,
)
from tests.support import processes
from tests.support.eventually import eventually
from tests.support.kills import Reconcile, survives_kills

ROUNDS = 100
"""The threads of a killed coroutine go on: like another provider's, their removal of an image is waited for."""


@asynccontextmanager
async def connected(ceph: Ceph) -> AsyncIterator[Cluster]:
    access = ceph.access
    cluster = Cluster(CephAddress(access.monitors, access.user, access.key_file.read_text(), POOL), threads=8)
    running = asyncio.create_task(cluster.run())
    await asyncio.wait_for(cluster.connected(), 30)
    yield cluster
    running.cancel()
    await asyncio.wait([running])


def new_record(number: int) -> Record:
    made = volume(64 * MIB, "foo", {})
    return rules.new_record(made, VolumeClass("foo", 10**8, 1000), names.id_for_uid(f"{number}"), "0" * 16, 1)


async def test_a_volume_is_made_and_removed_whichever_step_is_killed(ceph: Ceph) -> None:
    numbers = itertools.count()
    async with connected(ceph) as cluster:
        store = VolumeStore(cluster)

        @asynccontextmanager
        async def process(volume_id: str) -> AsyncIterator[Reconcile]:
            reconciler = VolumeReconciler(store, cluster, Recorder(), workers=1)
            yield lambda: reconciler.reconcile(Key("", volume_id))

        async def pending() -> str:
            record = new_record(next(numbers))
            assert await store.create(record) is None
            return record.id

        async def is_available(volume_id: str) -> None:
            record = await store.get(volume_id)
            assert record is not None
            assert record.status.state is VolumeState.AVAILABLE
            assert record.status.access is not None
            user, key = record.status.access.user, record.status.access.user_key
            with ceph.pool(user, key) as pool, rbd.Image(pool, names.image_name(volume_id), read_only=True) as image:
                assert (image.size(), image.metadata_get("wwn")) == (64 * MIB, "0" * 16)
                assert len(list(image.metadata_list())) == 15

        async def deleted() -> str:
            volume_id = await pending()
            async with process(volume_id) as reconcile:
                await reconcile()
            await store.update(volume_id, lambda record: rules.mark_deleted(record, 5))
            return volume_id

        async def is_gone(volume_id: str) -> None:
            assert await store.get(volume_id) is None
            assert names.image_name(volume_id) not in ceph.images()
            assert f"client.{names.user_id(volume_id)}" not in ceph.users()

        assert await survives_kills(pending, process, is_available, rounds=ROUNDS) >= 5
        assert await survives_kills(deleted, process, is_gone, rounds=ROUNDS) >= 4

        for record in await store.list():
            await store.update(record.id, lambda stored: rules.mark_deleted(stored, 5))
            async with process(record.id) as reconcile:
                await reconcile()
    assert (ceph.records(), ceph.images(), ceph.users()) == ({}, [], [])


@pytest.mark.parametrize("missing", ["rbd_header.{id}", "rbd_id.{name}", "rbd_header.{id} rbd_id.{name}"])
@pytest.mark.parametrize("step", [pytest.param("create", id="while it is made"), pytest.param("delete", id="removed")])
async def test_half_an_image_is_no_obstacle(ceph: Ceph, step: str, missing: str) -> None:
    """As a provider leaves it that is killed inside of RBD's own steps: the name is taken, but objects are missing."""
    record = new_record(10**6)
    name = names.image_name(record.id)
    with ceph.pool() as pool:
        rbd.RBD().create(pool, name, 64 * MIB)
        with rbd.Image(pool, name, read_only=True) as image:
            rbd_id = image.id()
        for each in missing.split():
            pool.remove_object(each.format(id=rbd_id, name=name))
    async with connected(ceph) as cluster:
        store = VolumeStore(cluster)
        reconciler = VolumeReconciler(store, cluster, Recorder(), workers=1)
        await store.create(record)
        if step == "create":
            await reconciler.reconcile(Key("", record.id))
            made = await store.get(record.id)
            assert made is not None
            assert made.status.state is VolumeState.AVAILABLE
        await store.update(record.id, lambda stored: rules.mark_deleted(stored, 5))
        await reconciler.reconcile(Key("", record.id))
    assert (ceph.records(), ceph.images(), ceph.users()) == ({}, [], [])


async def test_a_killed_provider_goes_on_where_it_was(runtime: Runtime, provider: Provider, ceph: Ceph) -> None:
    made = [await runtime.create(64 * MIB) for _ in range(5)]
    provider.kill()
    assert len(ceph.records()) == 5
    provider.start()
    for each in made:
        await runtime.available(each.metadata.id)
    for each in made:
        await runtime.delete(each.metadata.id)
    provider.kill()
    provider.start()
    for each in made:
        await runtime.gone(each.metadata.id)
    assert (ceph.records(), ceph.images(), ceph.users()) == ({}, [], [])


async def test_a_restart_leaves_open_volumes_alone(runtime: Runtime, provider: Provider, ceph: Ceph) -> None:
    made = await runtime.available((await runtime.create(64 * MIB)).metadata.id)
    with ceph.pool(*credentials(made)) as pool, rbd.Image(pool, image_of(made)) as image:
        provider.kill()
        image.write(b"written without a provider", 0)
        image.flush()
        provider.start()
        assert await runtime.available(made.metadata.id) == made
        assert image.read(0, 7) == b"written"


async def test_ceph_restarts(runtime: Runtime, ceph: Ceph) -> None:
    before = await runtime.available((await runtime.create(64 * MIB)).metadata.id)
    ceph.stop()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await runtime.stub.ListVolumes(pb.ListVolumesRequest(), timeout=SECONDS)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    # Not in a thread: the daemons would end with it.
    ceph.start()

    async def answered() -> bool:
        try:
            return await runtime.list() == [before]
        except grpc.aio.AioRpcError:
            return False

    await eventually(answered, within=SECONDS)
    made = await runtime.available((await runtime.create(64 * MIB)).metadata.id)
    with ceph.pool(*credentials(made)) as pool, rbd.Image(pool, image_of(made)) as image:
        image.write(b"after", 0)


async def test_a_client_on_the_blocklist_connects_anew(ceph: Ceph) -> None:
    async with connected(ceph) as cluster:
        store = VolumeStore(cluster)
        assert await store.list() == []
        first = await cluster.call("look", lambda connection: connection.get_addrs())
        ceph.command("osd blocklist", blocklistop="add", addr=first.split()[0])

        async def another() -> bool:
            # Reading shows it to the old connection once its OSD map has it.
            await store.list()
            return bool(first != await cluster.call("look", lambda connection: connection.get_addrs()))

        await eventually(another, within=SECONDS)
        assert await store.list() == []


async def test_two_providers_share_a_pool(runtime: Runtime, workspace: Path, ceph: Ceph) -> None:
    second = Provider(workspace, ceph, "second")
    second.start()
    async with grpc.aio.insecure_channel(second.socket) as channel:
        other = Runtime(channel)
        await other.status()
        uid = {names.UID_LABEL: "one"}
        made = await asyncio.gather(*(each.create(GIB, **uid) for each in (runtime, other) * 3))
        assert len({each.metadata.id for each in made}) == 1
        volume_id = made[0].metadata.id
        await runtime.available(volume_id)

        sizes = [GIB * number for number in range(2, 8)]
        sent = await asyncio.gather(
            *((runtime, other)[number % 2].expand(volume_id, size) for number, size in enumerate(sizes)),
            return_exceptions=True,
        )
        assert all(each is None or _refused(each) for each in sent)

        async def largest() -> bool:
            got = await other.get(volume_id)
            assert got is not None
            return got.spec.resources.storage_bytes == got.status.resources.storage_bytes == sizes[-1]

        await eventually(largest, within=SECONDS)
        await asyncio.gather(runtime.delete(volume_id), other.delete(volume_id))
        await runtime.gone(volume_id)
    assert second.stop() == 0


WRITER = """
import os, rados, rbd, signal, sys
user, key, monitors, pool, image = sys.argv[1:]
with rados.Rados(rados_id=user, conf={"mon_host": monitors, "key": key}) as ceph, ceph.open_ioctx(pool) as pool:
    opened = rbd.Image(pool, image)
    opened.write(b"first", 0)
    opened.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_a_volume_is_written_again_after_its_consumer_was_killed(runtime: Runtime, ceph: Ceph) -> None:
    """The dead one still holds the image's lock; to break it, the monitors must let the user blocklist it."""
    made = await runtime.available((await runtime.create(64 * MIB)).metadata.id)
    user, key = credentials(made)
    command = [sys.executable, "-c", WRITER, user, key, ceph.access.monitors, POOL, image_of(made)]
    killed = await asyncio.to_thread(subprocess.run, command, timeout=30, check=False)
    assert killed.returncode == -signal.SIGKILL

    def write_again() -> bytes:
        with ceph.pool(user, key) as pool, rbd.Image(pool, image_of(made)) as image:
            image.write(b"second", 4096)
            image.flush()
            return bytes(image.read(0, 5))

    assert await asyncio.to_thread(write_again) == b"first"


@pytest.mark.parametrize(
    ("flags", "code", "named"),
    [
        pytest.param([], 2, "--supported-volume-classes", id="no flags"),
        pytest.param(["--ceph-monitors", "nowhere"], 2, "--ceph-monitors", id="a monitor without port"),
        pytest.param(
            ["--supported-volume-classes", "/nonexistent"], 2, "--supported-volume-classes", id="no class file"
        ),
        pytest.param(["--ceph-key-file", "/dev/null"], 2, "--ceph-key-file", id="an empty key file"),
        pytest.param(["--ceph-kek-path", "/dev/null"], 2, "--ceph-kek-path", id="an empty key-encryption key"),
    ],
)
def test_wrong_settings_end_the_process(tmp_path: Path, flags: list[str], code: int, named: str) -> None:
    (tmp_path / "classes").write_text('[{"name": "foo", "capabilities": {"tps": 1, "iops": 1}}]')
    (tmp_path / "key").write_text("AQDyWAFrtkqrFhAA5EzI/uFFM7faDmTq3Cm6uw==")
    whole = {
        "--listen": f"unix:{tmp_path}/s",
        "--supported-volume-classes": str(tmp_path / "classes"),
        "--ceph-monitors": "127.0.0.1:1",
        "--ceph-user": "u",
        "--ceph-key-file": str(tmp_path / "key"),
        "--ceph-pool": "p",
    }
    if flags:
        whole[flags[0]] = flags[1]
    else:
        del whole["--supported-volume-classes"]
    ended = subprocess.run(
        [sys.executable, "-m", "services.ceph_provider", "serve", *itertools.chain(*whole.items())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, named in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr


async def test_without_ceph_the_provider_says_so_and_ends_in_time(tmp_path: Path, ceph: Ceph) -> None:
    (tmp_path / "classes").write_text('[{"name": "foo", "capabilities": {"tps": 1, "iops": 1}}]')
    socket = f"unix:{tmp_path}/s"
    process = processes.start(
        [
            *[sys.executable, "-m", "services.ceph_provider", "serve", "--listen", socket, "--ceph-pool", "none"],
            *["--supported-volume-classes", tmp_path / "classes", "--ceph-monitors", ceph.access.monitors],
            *["--ceph-user", ceph.access.user, "--ceph-key-file", ceph.access.key_file],
        ],
        tmp_path / "log",
    )
    async with grpc.aio.insecure_channel(socket) as channel:
        runtime = Runtime(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await runtime.create()
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        await eventually(lambda: "pool 'none' does not exist" in (tmp_path / "log").read_text(), within=20)
    before = time.monotonic()
    assert processes.stop(process) == 0
    assert time.monotonic() - before < 10


def _refused(error: object) -> bool:
    """A smaller size than the one that another call had set before."""
    return isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.INVALID_ARGUMENT
