"""What the demo says about a machine at each point of its way."""

from __future__ import annotations

import pytest

from ferrite.dev.observe import View
from ferrite.dev.stages import STAGES, Progress
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.net.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.storage.v1alpha1.volume_pb2 import Volume

CONSOLE = """\
ferrite: [2.10] booted 6.1.0-cloud
ferrite: [2.60] disk vdb 67108864 bytes serial x
ferrite: [2.70] disk vdb written and read back: vm boot 1
ferrite: [3.00] ping 10.0.0.2 no answer yet
"""


def finished() -> View:
    machine = Machine()
    machine.metadata.name = "vm"
    machine.spec.machine_pool_ref.name = "hv1"
    machine.spec.volumes.add(name="data").ephemeral.SetInParent()
    machine.status.machine_id, machine.status.state = "libvirt-provider://1234", "Running"
    prefix = Prefix()
    prefix.spec.prefix, prefix.status.phase = "10.0.0.1/32", "Allocated"
    interface = NetworkInterface()
    interface.spec.ips.append("10.0.0.1")
    interface.status.state, interface.status.tap_device.name = "Ready", "dtapvf_0"
    volume = Volume()
    volume.status.state, volume.status.access.volume_attributes["image"] = "Available", "volumes/img_1"
    return View(
        machines={"vm": machine},
        prefixes={"vm-blue-0": prefix},
        interfaces={"uid": interface},
        volumes={"vm-data": volume},
        consoles={"vm": CONSOLE + "ferrite: [4.00] ping 10.0.0.2 ok 0.9 ms\n"},
    )


def test_an_empty_cluster_reached_nothing() -> None:
    progress = Progress(("vm",))
    assert progress.note(View(), 1.0) == []
    assert len(progress.missing()) == len(STAGES)


def test_a_machine_that_pings_reached_everything() -> None:
    progress = Progress(("vm",))
    seen = {stage.title: what for stage, _, what in progress.note(finished(), 5.0)}
    assert progress.is_complete
    assert seen["hypervisor chosen"] == "hv1"
    assert seen["first ping to the peer"] == "10.0.0.2 in 0.9 ms"


def test_a_stage_counts_when_it_was_seen_first() -> None:
    progress = Progress(("vm",))
    progress.note(finished(), 5.0)
    assert progress.note(finished(), 9.0) == []
    assert {elapsed for elapsed, _ in progress.reached.values()} == {5.0}


@pytest.mark.parametrize(
    ("spoil", "open_stage"),
    [
        pytest.param(lambda view: view.consoles.update(vm=CONSOLE), "first ping to the peer", id="no answer yet"),
        pytest.param(lambda view: view.interfaces.clear(), "port programmed, announced", id="no port"),
        pytest.param(
            lambda view: setattr(view.volumes["vm-data"].status, "state", "Pending"), "volume made", id="no volume"
        ),
        pytest.param(
            lambda view: setattr(view.prefixes["vm-blue-0"].status, "phase", "Pending"), "address", id="no address"
        ),
    ],
)
def test_what_is_missing_is_named(spoil, open_stage: str) -> None:  # type: ignore[no-untyped-def]
    view = finished()
    spoil(view)
    progress = Progress(("vm",))
    progress.note(view, 1.0)
    assert any(open_stage in missing for missing in progress.missing())


def test_a_machine_without_a_volume_waits_for_none() -> None:
    view = finished()
    del view.machines["vm"].spec.volumes[:]
    view.volumes.clear()
    progress = Progress(("vm",))
    progress.note(view, 1.0)
    assert progress.is_complete
