"""Machines from birth to death: a real guest under a real libvirt, asked for through gRPC."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import grpc
import pytest

from ferrite.dev.libvirtd import Libvirtd, start_libvirtd
from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from tests.integration.libvirt_provider.harness import Provider, Runtime, domains, machine
from tests.support.eventually import eventually


async def test_a_machine_boots_from_an_oci_layout_and_leaves_nothing(
    runtime: Runtime, provider: Provider, image: Path
) -> None:
    asked = machine(image, "hostname web\nrun echo ignition was read\n", team="blue")
    asked.spec.network_interfaces.add(name="nic0", network_id="ignored", ips=["10.0.0.1"])
    answer = await runtime.stub.CreateMachine(pb.CreateMachineRequest(machine=asked))
    machine_id = answer.machine.metadata.id
    runtime.created.append(machine_id)
    assert answer.machine.status == pb.MachineStatus(state=pb.MACHINE_PENDING)
    assert answer.machine.metadata.created_at > 10**18  # nanoseconds

    running = await runtime.state(machine_id, pb.MACHINE_RUNNING)
    console = await runtime.says(machine_id, "ready")
    assert "ignition was read" in console
    assert "disk vda 8388608 bytes serial oda-" in console
    assert "written and read back: web" in console
    assert "dhcp eth0" in await runtime.says(machine_id, "dhcp eth0")
    assert list(running.status.volumes) == [
        pb.VolumeStatus(name="root", handle="libvirt-provider.ironcore.dev/local-disk/root", state=pb.VOLUME_ATTACHED)
    ]
    assert [(nic.name, nic.state) for nic in running.status.network_interfaces] == [
        ("nic0", pb.NETWORK_INTERFACE_ATTACHED)
    ]
    assert running.spec == asked.spec
    assert f"<name>{machine_id}</name>" in domains(provider.uri)[machine_id]

    labelled = pb.ListMachinesRequest(filter=pb.MachineFilter(label_selector={"team": "blue"}))
    assert [each.metadata.id for each in (await runtime.stub.ListMachines(labelled)).machines] == [machine_id]
    events = (await runtime.stub.ListEvents(pb.ListEventsRequest(filter=pb.EventFilter(id=machine_id)))).events
    assert {"ImagePullSucceeded", "MachineStarted"} <= {event.spec.reason for event in events}

    await runtime.stub.DeleteMachine(pb.DeleteMachineRequest(machine_id=machine_id))
    await runtime.stub.DeleteMachine(pb.DeleteMachineRequest(machine_id=machine_id))
    leaving = await runtime.get(machine_id)
    assert leaving is not None
    assert leaving.metadata.deleted_at > 0
    await runtime.gone(machine_id)
    assert machine_id not in domains(provider.uri)
    assert not (provider.state / "machines" / machine_id).exists()
    assert not (provider.state / "store" / "machines" / machine_id).exists()


async def test_power_off_keeps_the_disk_and_power_on_boots_it_again(
    runtime: Runtime, provider: Provider, image: Path
) -> None:
    machine_id = await runtime.create(machine(image, "hostname kept\n"))
    first = await runtime.says(machine_id, "written and read back")
    mark = first.split("written and read back: ")[1].splitlines()[0]
    await runtime.says(machine_id, "ready")

    await runtime.stub.UpdateMachinePower(pb.UpdateMachinePowerRequest(machine_id=machine_id, power=pb.POWER_OFF))
    stopped = await runtime.state(machine_id, pb.MACHINE_STOPPED)
    assert machine_id not in domains(provider.uri)
    assert [each.state for each in stopped.status.volumes] == [pb.VOLUME_PENDING]
    assert "shutting down" in runtime.console(machine_id)  # the button was pressed, the guest obeyed

    await runtime.stub.UpdateMachinePower(pb.UpdateMachinePowerRequest(machine_id=machine_id, power=pb.POWER_ON))
    await runtime.state(machine_id, pb.MACHINE_RUNNING)
    await runtime.says(machine_id, f"found mark: {mark}")


async def test_a_guest_without_system_boots_uefi_and_is_ended_by_force(runtime: Runtime, provider: Provider) -> None:
    machine_id = await runtime.create(machine(None))
    await runtime.state(machine_id, pb.MACHINE_RUNNING)
    await runtime.says(machine_id, "BdsDxe")
    assert (provider.state / "machines" / machine_id / "nvram.fd").exists()
    events = (await runtime.stub.ListEvents(pb.ListEventsRequest(filter=pb.EventFilter(id=machine_id)))).events
    assert "Machine does not have ignition data" in {event.spec.message for event in events}

    await runtime.stub.DeleteMachine(pb.DeleteMachineRequest(machine_id=machine_id))
    await runtime.state(machine_id, pb.MACHINE_TERMINATING)
    await runtime.gone(machine_id)
    events = (await runtime.stub.ListEvents(pb.ListEventsRequest(filter=pb.EventFilter(id=machine_id)))).events
    assert "DomainDestroySucceeded" in {event.spec.reason for event in events}
    assert machine_id not in domains(provider.uri)
    assert not (provider.state / "machines" / machine_id).exists()


async def test_a_killed_provider_adopts_what_runs(runtime: Runtime, provider: Provider, image: Path) -> None:
    machine_id = await runtime.create(machine(image))
    await runtime.says(machine_id, "ready")
    before = await runtime.state(machine_id, pb.MACHINE_RUNNING)
    qemu = (provider.directory / "hv" / "run" / "qemu" / f"{machine_id}.pid").read_text()

    provider.kill()
    provider.start()

    async def answers() -> pb.Machine | None:
        try:
            return await runtime.get(machine_id)
        except grpc.aio.AioRpcError:
            return None

    assert await eventually(answers, 15, provider.log) == before
    root_disk = pb.Volume(name="late", device="odb", local_disk=pb.LocalDisk(size_bytes=1 << 20))
    await runtime.stub.AttachVolume(pb.AttachVolumeRequest(machine_id=machine_id, volume=root_disk))
    await runtime.says(machine_id, "disk vdb written and read back")
    assert (provider.directory / "hv" / "run" / "qemu" / f"{machine_id}.pid").read_text() == qemu
    assert runtime.console(machine_id).count("booted") == 1

    os.kill(int(qemu), signal.SIGKILL)  # a guest that dies is started again, with its disks
    await runtime.says(machine_id, "booted", times=2)
    await runtime.says(machine_id, "disk vdb found mark")


async def test_libvirt_may_go_and_come_back(
    runtime: Runtime, provider: Provider, image: Path, libvirtd: Libvirtd, workspace: Path
) -> None:
    machine_id = await runtime.create(machine(image))
    await runtime.says(machine_id, "ready")
    libvirtd.stop()
    await runtime.stub.AttachVolume(
        pb.AttachVolumeRequest(
            machine_id=machine_id,
            volume=pb.Volume(name="late", device="odb", local_disk=pb.LocalDisk(size_bytes=1 << 20)),
        )
    )
    restarted = start_libvirtd(workspace / "hv", netns=workspace.name)
    try:
        await runtime.says(machine_id, "disk vdb 1048576 bytes")
        assert runtime.console(machine_id).count("booted") == 1
        await runtime.delete(machine_id)
    finally:
        # The session's own daemon takes over again.
        restarted.stop()
        object.__setattr__(libvirtd, "process", start_libvirtd(workspace / "hv", netns=workspace.name).process)


@pytest.mark.parametrize(
    ("break_it", "field"),
    [
        pytest.param(lambda m: setattr(m.spec, "class", "none"), "machine.spec.class", id="unknown class"),
        pytest.param(lambda m: setattr(m.spec.volumes[0], "device", ""), "volumes[0].device", id="empty device"),
        pytest.param(lambda m: m.spec.volumes.append(m.spec.volumes[0]), "volumes[1].name", id="volume name twice"),
        pytest.param(lambda m: m.spec.volumes.add(name="x", device="odb"), "volumes[1]", id="volume of no kind"),
        pytest.param(lambda m: m.spec.network_interfaces.add(name="a.b"), "network_interfaces[0].name", id="nic name"),
        pytest.param(lambda m: m.spec.network_interfaces.add(name="a", ips=["10.0.0"]), "ips[0]", id="ip"),
        pytest.param(lambda m: m.ClearField("metadata"), "metadata", id="no metadata"),
    ],
)  # fmt: skip
async def test_a_wrong_machine_is_refused_and_not_stored(runtime: Runtime, break_it: object, field: str) -> None:
    asked = machine(None, label="x")
    break_it(asked)  # type: ignore[operator]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await runtime.stub.CreateMachine(pb.CreateMachineRequest(machine=asked))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in refused.value.details()
    assert not (await runtime.stub.ListMachines(pb.ListMachinesRequest())).machines


async def test_unknown_machines(runtime: Runtime) -> None:
    assert await runtime.get("unknown") is None
    for call, request in [
        (runtime.stub.DeleteMachine, pb.DeleteMachineRequest(machine_id="unknown")),
        (runtime.stub.UpdateMachineAnnotations, pb.UpdateMachineAnnotationsRequest(machine_id="unknown")),
        (runtime.stub.UpdateMachinePower, pb.UpdateMachinePowerRequest(machine_id="unknown")),
        (runtime.stub.DetachVolume, pb.DetachVolumeRequest(machine_id="unknown", name="root")),
        (runtime.stub.DetachNetworkInterface, pb.DetachNetworkInterfaceRequest(machine_id="unknown", name="nic")),
        (runtime.stub.Exec, pb.ExecRequest(machine_id="unknown")),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(request)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_version_and_status(runtime: Runtime) -> None:
    version = await runtime.stub.Version(pb.VersionRequest(version="9.9.9"))
    assert version.runtime_name == "libvirt-provider"
    assert len(version.runtime_version.split(".")) == 3
    # UNAVAILABLE until libvirt is connected: the answer is the pool's sign of health.
    status = await eventually(lambda: runtime.stub.Status(pb.StatusRequest()))
    offered = status.machine_class_status
    assert [each.machine_class.name for each in offered] == ["tiny", "large"]
    assert offered[0].machine_class.capabilities.resources["memory"] == 96 << 20
    assert offered[1].machine_class.capabilities.resources["cpu"] == 1  # 500m, rounded up
    assert all(each.quantity > 0 for each in offered)
