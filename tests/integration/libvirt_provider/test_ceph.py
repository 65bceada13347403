"""A disk in a real Ceph: attached while the guest runs, grown, taken away, and found again by the next machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import libvirt
import pytest
import rados
import rbd

from ferrite.dev.ceph import CephAccess, CephCluster
from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from tests.integration.libvirt_provider.harness import Runtime, machine
from tests.support.eventually import eventually
from tests.support.processes import start, stop

POOL = "volumes"
IMAGE = "img_1"
HANDLE = "0123456789abcdef"
MIB = 1 << 20


@pytest.fixture(scope="module")
def ceph(workspace: Path) -> Iterator[CephAccess]:
    """Listens on an address that both the test and the guests' network namespace reach."""
    token = workspace.name.removeprefix("ft-lv-")
    subnet = f"10.251.{int(token[:2], 16)}"
    link = ["link", "add", f"ftlv{token}", "type", "veth", "peer", "name", "eth0", "netns", workspace.name]
    subprocess.run(["ip", *link], check=True)
    try:
        for command in (
            f"addr add {subnet}.1/30 dev ftlv{token}",
            f"link set ftlv{token} up",
            f"-n {workspace.name} addr add {subnet}.2/30 dev eth0",
            f"-n {workspace.name} link set eth0 up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        with ExitStack() as running:
            yield _started(CephCluster(workspace / "ceph", f"{subnet}.1"), workspace, running)
    finally:
        subprocess.run(["ip", "link", "del", f"ftlv{token}"], check=True)


def _started(cluster: CephCluster, workspace: Path, running: ExitStack) -> CephAccess:
    cluster.prepare()
    for daemon in cluster.daemons():
        running.callback(stop, start(list(daemon.command), workspace / f"{daemon.name}.log"))
    cluster.make_osd()
    running.callback(stop, start(list(cluster.osd().command), workspace / "ceph-osd.log"))
    access = cluster.set_up(POOL)
    with _pool(access) as pool:
        rbd.RBD().create(pool, IMAGE, 32 * MIB)
    return access


class _pool:
    """The pool, as the provider of volumes sees it."""

    def __init__(self, access: CephAccess) -> None:
        options = {"mon_host": access.monitors, "key": access.key_file.read_text(), "rados_osd_op_timeout": "10"}
        self._cluster = rados.Rados(name=f"client.{access.user}", conf=options)

    def __enter__(self) -> Any:
        self._cluster.connect(timeout=20)
        return self._cluster.open_ioctx(POOL)

    def __exit__(self, *error: object) -> None:
        self._cluster.shutdown()


def volume(access: CephAccess, size: int) -> pb.Volume:
    connection = pb.VolumeConnection(
        driver="ceph",
        handle=HANDLE,
        attributes={"monitors": access.monitors, "image": f"{POOL}/{IMAGE}"},
        secret_data={"userID": access.user.encode(), "userKey": access.key_file.read_bytes().strip()},
        effective_storage_bytes=size,
    )
    return pb.Volume(name="data", device="odb", connection=connection)


async def test_a_ceph_volume_comes_grows_goes_and_is_found_again(
    runtime: Runtime, image: Path, ceph: CephAccess
) -> None:
    machine_id = await runtime.create(machine(image, "hostname first\n"))
    await runtime.says(machine_id, "ready")
    await runtime.stub.AttachVolume(pb.AttachVolumeRequest(machine_id=machine_id, volume=volume(ceph, 32 * MIB)))
    console = await runtime.says(machine_id, "disk vdb written and read back: first")
    assert f"disk vdb {32 * MIB} bytes serial odb-{HANDLE}" in console

    connection = libvirt.open(runtime.provider.uri)
    domain = connection.lookupByUUIDString(machine_id)
    with _pool(ceph) as pool, rbd.Image(pool, IMAGE) as opened:
        opened.resize(48 * MIB)
    await runtime.stub.UpdateVolume(pb.UpdateVolumeRequest(machine_id=machine_id, volume=volume(ceph, 48 * MIB)))

    async def grown() -> bool:
        return bool(domain.blockInfo("vdb")[0] == 48 * MIB)

    await eventually(grown, 15, runtime.provider.log)
    key = ceph.key_file.read_text().strip()
    assert key not in domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    assert len(connection.listAllSecrets()) == 1

    await runtime.stub.DetachVolume(pb.DetachVolumeRequest(machine_id=machine_id, name="data"))
    await runtime.says(machine_id, "device vdb gone")

    async def no_secret() -> bool:
        return not connection.listAllSecrets()

    await eventually(no_secret, 15, runtime.provider.log)
    await runtime.delete(machine_id)

    asked = machine(image, "hostname second\n")
    asked.spec.volumes.append(volume(ceph, 48 * MIB))
    second = await runtime.create(asked)
    await runtime.says(second, "disk vdb found mark: first")
    running = await runtime.state(second, pb.MACHINE_RUNNING)
    assert running.status.volumes[1].handle == (
        f"libvirt-provider.ironcore.dev/ceph/libvirt-provider.ironcore.dev/ceph^{HANDLE}"
    )
    assert key not in runtime.provider.log()
    await runtime.delete(second)
    assert not connection.listAllSecrets()
    connection.close()
