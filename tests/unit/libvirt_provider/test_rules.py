"""Classes and capacity, events, restarts, console logs, local disks, interfaces of the control plane."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from protos.net.v1alpha1.network_interface_pb2 import NetworkInterface
from services.apimachinery.runtime.reconciler import Waiting
from services.libvirt_provider.console import ConsoleLogs
from services.libvirt_provider.images.cache import Image
from services.libvirt_provider.kvm_probe import WORD, boot_sector
from services.libvirt_provider.layout import StateDirectory
from services.libvirt_provider.model.classes import HostResources, MachineClass, parse_classes, quantity
from services.libvirt_provider.model.devices import FileSource, PciDevice, Tap
from services.libvirt_provider.model.events import EventRing
from services.libvirt_provider.model.restarts import HEALTHY_SECONDS, LIMIT_SECONDS, Restarts
from services.libvirt_provider.nics.apinet import NetworkId, backing_of, handle_of, parse_network_id
from services.libvirt_provider.volumes.local_disk import DEFAULT_BYTES, LocalDisks

GIB = 1 << 30


def entry(name: Any = "tiny", **capabilities: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "capabilities": {"cpu": "1", "memory": "1Gi"} | capabilities}


def test_classes_are_rounded_up() -> None:
    parsed = parse_classes([entry("a", cpu="500m", **{"nvidia.com/gpu": 1}), entry("b", memory="1.5")])
    assert parsed["a"].resources == {"cpu": 1, "memory": GIB, "nvidia.com/gpu": 1}
    assert parsed["b"].memory == 2


@pytest.mark.parametrize(
    ("document", "says"),
    [
        pytest.param({}, "must be a list", id="no list"),
        pytest.param([entry(name="")], r"[0].metadata.name", id="no name"),
        pytest.param([entry(), entry()], r"[1].metadata.name: 'tiny' stands twice", id="a name twice"),
        pytest.param([{"metadata": {"name": "x"}}], r"[0].capabilities", id="no capabilities"),
        pytest.param(
            [{"metadata": {"name": "x"}, "capabilities": {"cpu": 1}}], "memory: must be given", id="no memory"
        ),
        pytest.param([entry(cpu=0)], "capabilities.cpu: must be greater than zero", id="zero"),
        pytest.param([entry(cpu="many")], "capabilities.cpu", id="no quantity"),
        pytest.param([entry(cpu=True)], "capabilities.cpu", id="a truth value"),
        pytest.param(["x"], r"[0].metadata.name", id="a string"),
    ],
)
def test_wrong_classes(document: Any, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_classes(document)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("cpus", "memory", "host", "fits"),
    [
        pytest.param(2, GIB, HostResources(8, 64 * GIB), 4, id="CPUs are the limit"),
        pytest.param(1, 4 * GIB, HostResources(8, 10 * GIB), 2, id="memory is the limit, the rest is lost"),
        pytest.param(4, GIB, HostResources(2, GIB), 0, id="none fits"),
    ],
)
def test_quantity(cpus: int, memory: int, host: HostResources, fits: int) -> None:
    assert quantity(MachineClass("x", {"cpu": cpus, "memory": memory}), host) == fits


def machine(machine_id: str, **labels: str) -> pb.Machine:
    made = pb.Machine()
    made.metadata.id = machine_id
    made.metadata.labels.update(labels)
    return made


@pytest.mark.parametrize(
    ("wanted", "reasons"),
    [
        pytest.param(pb.EventFilter(), ["B", "C", "D"], id="all that the ring holds, oldest first"),
        pytest.param(pb.EventFilter(id="2"), ["C"], id="of one machine"),
        pytest.param(pb.EventFilter(label_selector={"team": "red"}), ["C"], id="by label"),
        pytest.param(pb.EventFilter(events_from_time=101, events_to_time=102), ["B", "C"], id="a window, inclusive"),
        pytest.param(pb.EventFilter(events_from_time=103), ["B", "C", "D"], id="half a window does not count"),
    ],
)
def test_events(wanted: pb.EventFilter, reasons: list[str]) -> None:
    ring = EventRing(capacity=3)
    for number, (owner, reason) in enumerate([("1", "A"), ("1", "B"), ("2", "C"), ("1", "D")]):
        made = machine(owner, team="red" if owner == "2" else "blue")
        ring.record(made, "Normal", reason, "Act", "text", 100 + number)
    assert [event.spec.reason for event in ring.select(wanted, now=110)] == reasons


def test_events_expire_and_repetitions_are_one() -> None:
    ring = EventRing(ttl=10)
    ring.record(machine("1"), "Normal", "A", "Act", "text", 100)
    for now in (101, 102, 103):
        ring.record(machine("2"), "Warning", "B", "Act", "text", now)
    assert [(each.spec.reason, each.spec.event_time) for each in ring.select(pb.EventFilter(), 110)] == [
        ("A", 100),
        ("B", 103),
    ]
    assert [each.spec.reason for each in ring.select(pb.EventFilter(), 111)] == ["B"]


def test_a_guest_that_ends_at_once_is_started_ever_later() -> None:
    restarts, now, delays = Restarts(), 0.0, []
    for _ in range(12):
        delay = restarts.delay("m", now)
        delays.append(delay)
        now += delay
        assert restarts.delay("m", now) == 0
        restarts.started("m", now)
        now += 1
    assert delays[:4] == [0, 2, 4, 8]
    assert delays[-1] == LIMIT_SECONDS
    restarts.forget("m")
    assert restarts.delay("m", now) == 0


def test_a_guest_that_lived_is_started_at_once() -> None:
    restarts = Restarts()
    for now in (0.0, HEALTHY_SECONDS, 3 * HEALTHY_SECONDS):
        assert restarts.delay("m", now) == 0
        restarts.started("m", now)


def test_a_console_log_is_bounded_while_it_is_being_written(tmp_path: Path) -> None:
    log = tmp_path / "m" / "logs" / "console.log"
    log.parent.mkdir(parents=True)
    writer = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    trimmer = ConsoleLogs(tmp_path, limit=1000)
    os.write(writer, b"x" * 900)
    trimmer.trim()
    assert log.stat().st_size == 900
    os.write(writer, b"y" * 900)
    trimmer.trim()
    os.write(writer, b"after")
    os.close(writer)
    assert log.read_bytes() == b"after"  # no hole
    assert log.with_name("console.log.1").read_bytes() == b"x" * 100 + b"y" * 900


async def test_local_disks_are_sparse_and_at_least_as_large_as_their_image(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.prepare()
    state.machine("m").prepare()
    rootfs = tmp_path / "rootfs"
    rootfs.write_bytes(b"boot" + bytes(9 << 20) + b"end")
    image = Image("sha256:0", rootfs, None, None, "")
    disks = LocalDisks(state)

    async def made(name: str, size: int, source: Image | None) -> Path:
        disk = await disks.ensure("m", pb.Volume(name=name, device="oda", local_disk={"size_bytes": size}), source)
        assert isinstance(disk.source, FileSource)
        return disk.source.path

    grown = await made("grown", 64 << 20, image)
    assert grown.stat().st_size == 64 << 20
    assert grown.stat().st_blocks * 512 < 16 << 20
    assert grown.read_bytes()[: rootfs.stat().st_size] == rootfs.read_bytes()
    assert (await made("small", 1, image)).stat().st_size == rootfs.stat().st_size
    assert (await made("empty", 0, None)).stat().st_size == DEFAULT_BYTES

    grown.write_bytes(b"the guest's data")
    assert (await made("grown", 64 << 20, image)).read_bytes() == b"the guest's data"
    volume = pb.Volume(name="grown", device="oda")
    await disks.release("m", volume)
    await disks.release("m", volume)
    assert not grown.parent.exists()


@pytest.mark.parametrize("text", ["ironcore-net://tenant/blue/200/uid", "tenant/blue/200/uid"])
def test_network_ids(text: str) -> None:
    assert parse_network_id(text) == NetworkId("tenant", "blue")


@pytest.mark.parametrize("text", ["", "blue", "ironcore-net://tenant/blue/200", "a/b/c/d/e", "a//c/d"])
def test_wrong_network_ids(text: str) -> None:
    with pytest.raises(ValueError, match="namespace/name/id/uid"):
        parse_network_id(text)


def interface(state: str, **status: Any) -> NetworkInterface:
    made = NetworkInterface(status={"state": state, **status})
    made.metadata.name, made.metadata.namespace, made.metadata.uid = "nic", "tenant", "uid"
    made.spec.node_ref.name = "p.hv1"
    return made


PCI = {"domain": "0000", "bus": "3b", "slot": "02", "function": "1"}


def test_a_ready_interface_has_one_device() -> None:
    assert backing_of(interface("Ready", tap_device={"name": "tap0"})) == Tap("tap0")
    assert backing_of(interface("Ready", pci_address=PCI)) == PciDevice("0000", "3b", "02", "1")
    assert handle_of(interface("Ready")) == "ironcore-net://tenant/nic/p.hv1/uid"


@pytest.mark.parametrize(
    ("made", "error"),
    [
        pytest.param(interface(""), Waiting, id="new"),
        pytest.param(interface("Pending", tap_device={"name": "tap0"}), Waiting, id="pending"),
        pytest.param(interface("Error"), Waiting, id="failed on its node"),
        pytest.param(interface("Ready"), ValueError, id="ready without device"),
        pytest.param(interface("Ready", tap_device={"name": "t"}, pci_address=PCI), ValueError, id="two devices"),
    ],
)
def test_an_interface_without_device(made: NetworkInterface, error: type[Exception]) -> None:
    with pytest.raises(error):
        backing_of(made)


def test_the_probe_fits_a_boot_sector() -> None:
    sector = boot_sector()
    assert len(sector) == 512
    assert sector.endswith(b"\x55\xaa")
    assert WORD in sector
