"""Disks and network interfaces that come and go while the guest runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from tests.integration.libvirt_provider.harness import Provider, Runtime, domains, machine
from tests.support.eventually import eventually


@pytest_asyncio.fixture
async def running(runtime: Runtime, image: Path) -> AsyncIterator[str]:
    machine_id = await runtime.create(machine(image))
    await runtime.says(machine_id, "ready")
    yield machine_id


async def test_devices_are_plugged_and_unplugged(runtime: Runtime, provider: Provider, running: str) -> None:
    data = pb.Volume(name="data", device="odb", local_disk=pb.LocalDisk(size_bytes=3 << 20))
    await runtime.stub.AttachVolume(pb.AttachVolumeRequest(machine_id=running, volume=data))
    nic = pb.NetworkInterface(name="nic1", network_id="ignored")
    await runtime.stub.AttachNetworkInterface(
        pb.AttachNetworkInterfaceRequest(machine_id=running, network_interface=nic)
    )
    await runtime.says(running, "disk vdb written and read back")
    await runtime.says(running, "interface eth0 mac 52:")
    machine_now = await _settled(runtime, running, volumes=2, nics=1)
    assert [each.state for each in machine_now.status.volumes] == [pb.VOLUME_ATTACHED] * 2
    file = provider.state / "machines" / running / "volumes" / "libvirt-provider.ironcore.dev~local-disk" / "data"
    assert (file / "disk.raw").stat().st_size == 3 << 20

    for call, request in [
        (runtime.stub.AttachVolume, pb.AttachVolumeRequest(machine_id=running, volume=data)),
        (
            runtime.stub.AttachNetworkInterface,
            pb.AttachNetworkInterfaceRequest(machine_id=running, network_interface=nic),
        ),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(request)
        assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS

    await runtime.stub.DetachVolume(pb.DetachVolumeRequest(machine_id=running, name="data"))
    with pytest.raises(grpc.aio.AioRpcError) as again:
        await runtime.stub.DetachVolume(pb.DetachVolumeRequest(machine_id=running, name="data"))
    assert again.value.code() is grpc.StatusCode.NOT_FOUND
    await runtime.stub.DetachNetworkInterface(pb.DetachNetworkInterfaceRequest(machine_id=running, name="nic1"))
    await runtime.says(running, "device vdb gone")
    await runtime.says(running, "device eth0 gone")
    await _settled(runtime, running, volumes=1, nics=0)
    assert not file.exists()
    assert "ua-networkinterface-nic1" not in domains(provider.uri)[running]
    # Settled: the record is not written again and again.
    assert (await runtime.get(running)).status.machine_conditions[0].status == "True"  # type: ignore[union-attr]


async def _settled(runtime: Runtime, machine_id: str, *, volumes: int, nics: int) -> pb.Machine:
    async def settled() -> pb.Machine | None:
        seen = await runtime.get(machine_id)
        assert seen is not None
        attached = [each for each in seen.status.volumes if each.state == pb.VOLUME_ATTACHED]
        plugged = [each for each in seen.status.network_interfaces if each.state == pb.NETWORK_INTERFACE_ATTACHED]
        counts = (len(attached), len(plugged), len(seen.status.volumes), len(seen.status.network_interfaces))
        return seen if counts == (volumes, nics, volumes, nics) else None

    found: pb.Machine = await eventually(settled, 30, runtime.provider.log)
    return found
