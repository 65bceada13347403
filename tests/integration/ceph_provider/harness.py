"""A real Ceph and the provider as a process, for tests."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import rados
import rbd

from ferrite.dev.ceph import CephAccess, CephCluster, Daemon
from protos.iri.volume.v1alpha1 import volume_pb2 as pb
from protos.iri.volume.v1alpha1 import volume_pb2_grpc
from services.ceph_provider.model import names
from tests.support import processes
from tests.support.eventually import eventually

POOL = "volumes"
GIB = 1 << 30
MIB = 1 << 20
CLASSES = [
    {"name": "foo", "capabilities": {"tps": 262144000, "iops": 15000}},
    {"name": "bar", "capabilities": {"tps": "1048576", "iops": "100"}},
]
SECONDS = 60.0
"""Within which a volume gets where it should be; half of it is for watches of a killed process to expire."""


class Ceph:
    """A throw-away cluster whose daemons may be killed and started."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "ceph.log"
        self._cluster = CephCluster(directory / "c", "127.0.0.1", _two_free_ports())
        self._running: list[subprocess.Popen[bytes]] = []
        self.access: CephAccess

    def start(self) -> None:
        self._cluster.prepare()
        for daemon in self._cluster.daemons():
            self._start(daemon)
        self._cluster.make_osd()
        self._start(self._cluster.osd())
        self.access = self._cluster.set_up(POOL)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        for process in reversed(self._running):
            processes.stop(process, number)
        self._running.clear()

    @contextlib.contextmanager
    def connected(self, user: str = "", key: str = "") -> Iterator[Any]:
        """As client.admin, or as a user with its key."""
        limits = {"rados_mon_op_timeout": "10", "rados_osd_op_timeout": "10", "client_mount_timeout": "10"}
        if user:
            conf = {"mon_host": self._cluster.monitors, "key": key, **limits}
            connection = rados.Rados(rados_id=user, conf=conf)
        else:
            connection = rados.Rados(conffile=str(self._cluster.configuration), name="client.admin", conf=limits)
        with connection as ceph:
            yield ceph

    @contextlib.contextmanager
    def pool(self, user: str = "", key: str = "") -> Iterator[Any]:
        with self.connected(user, key) as ceph, ceph.open_ioctx(POOL) as pool:
            yield pool

    def command(self, prefix: str, **arguments: Any) -> Any:
        with self.connected() as ceph:
            order = json.dumps({"prefix": prefix, **arguments, "format": "json"})
            code, output, problem = ceph.mon_command(order, b"", timeout=10)
        if code != 0:
            raise RuntimeError(f"{prefix}: {problem}")
        return json.loads(output) if output.strip() else None

    def users(self) -> list[str]:
        """Cephx users of volumes."""
        entities = (str(each["entity"]) for each in self.command("auth ls")["auth_dump"])
        return [each for each in entities if each.startswith("client.volume-")]

    def images(self) -> list[str]:
        with self.pool() as pool:
            return list(rbd.RBD().list(pool))

    def records(self) -> dict[str, Any]:
        with self.pool() as pool, rados.ReadOpCtx() as read:
            found, _ = pool.get_omap_vals(read, "", "", 1000)
            try:
                pool.operate_read_op(read, names.VOLUMES_OBJECT)
            except rados.ObjectNotFound:
                return {}
            return {key: json.loads(value) for key, value in found}

    def drop_record(self, key: str) -> None:
        with self.pool() as pool, rados.WriteOpCtx() as write:
            pool.remove_omap_keys(write, (key,))
            pool.operate_write_op(write, names.VOLUMES_OBJECT)

    def put_record(self, key: str, value: str) -> None:
        with self.pool() as pool, rados.WriteOpCtx() as write:
            pool.set_omap(write, (key,), (value,))
            pool.operate_write_op(write, names.VOLUMES_OBJECT)

    def _start(self, daemon: Daemon) -> None:
        self._running.append(processes.start(daemon.command, self._log))


class Provider:
    """`ferrite ceph-provider serve` as a process."""

    def __init__(self, directory: Path, ceph: Ceph, name: str = "provider") -> None:
        self._directory, self._ceph = directory, ceph
        self.socket = f"unix:{directory}/{name}.sock"
        self.log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        classes = self._directory / "classes.yaml"
        classes.write_text(json.dumps(CLASSES))
        access = self._ceph.access
        self._process = processes.start(
            [
                *[sys.executable, "-m", "services.ceph_provider", "serve", "--listen", self.socket],
                *["--supported-volume-classes", classes, "--ceph-pool", POOL],
                *["--ceph-monitors", access.monitors, "--ceph-user", access.user],
                *["--ceph-key-file", access.key_file],
            ],
            self.log,
        )

    def kill(self) -> None:
        assert self._process is not None
        processes.stop(self._process, signal.SIGKILL)

    def stop(self) -> int:
        assert self._process is not None
        return processes.stop(self._process)


class Runtime:
    """A client of the runtime interface."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = volume_pb2_grpc.VolumeRuntimeStub(channel)

    async def create(self, size: int = GIB, class_name: str = "foo", **labels: str) -> pb.Volume:
        answer = await self.stub.CreateVolume(
            pb.CreateVolumeRequest(volume=volume(size, class_name, labels)), timeout=30, wait_for_ready=True
        )
        made: pb.Volume = answer.volume
        return made

    async def list(self, volume_id: str = "", **labels: str) -> list[pb.Volume]:
        wanted = pb.VolumeFilter(id=volume_id, label_selector=labels)
        answer = await self.stub.ListVolumes(pb.ListVolumesRequest(filter=wanted), timeout=30, wait_for_ready=True)
        return list(answer.volumes)

    async def get(self, volume_id: str) -> pb.Volume | None:
        found = await self.list(volume_id)
        return found[0] if found else None

    async def expand(self, volume_id: str, size: int) -> None:
        resources = pb.VolumeResources(storage_bytes=size)
        await self.stub.ExpandVolume(pb.ExpandVolumeRequest(volume_id=volume_id, resources=resources), timeout=30)

    async def delete(self, volume_id: str) -> None:
        await self.stub.DeleteVolume(pb.DeleteVolumeRequest(volume_id=volume_id), timeout=30)

    async def status(self) -> list[pb.VolumeClassStatus]:
        answer = await self.stub.Status(pb.StatusRequest(), timeout=30, wait_for_ready=True)
        return list(answer.volume_class_status)

    async def events(self, **filters: Any) -> list[Any]:
        wanted = pb.EventFilter(**filters)
        return [each.spec for each in (await self.stub.ListEvents(pb.ListEventsRequest(filter=wanted))).events]

    async def available(self, volume_id: str) -> pb.Volume:
        async def look() -> pb.Volume | None:
            found = await self.get(volume_id)
            return found if found and found.status.state == pb.VOLUME_AVAILABLE else None

        made: pb.Volume = await eventually(look, within=SECONDS)
        return made

    async def gone(self, volume_id: str) -> None:
        async def look() -> bool:
            return await self.get(volume_id) is None

        await eventually(look, within=SECONDS)


def volume(size: int, class_name: str, labels: dict[str, str]) -> pb.Volume:
    wanted = pb.Volume()
    wanted.metadata.labels.update(labels)
    wanted.metadata.annotations["note"] = "kept"
    setattr(wanted.spec, "class", class_name)
    wanted.spec.resources.storage_bytes = size
    return wanted


def credentials(made: pb.Volume) -> tuple[str, str]:
    """User and key of an available volume."""
    secret = made.status.access.secret_data
    return secret["userID"].decode(), secret["userKey"].decode()


def image_of(made: pb.Volume) -> str:
    """The image's name in the pool."""
    return str(made.status.access.attributes["image"].partition("/")[2])


def _two_free_ports() -> int:
    """A port that is free and so is the next one."""
    while True:
        port = processes.free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
        return port
