"""The store of machines on a disk that is really full."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.model.machine import Record
from services.libvirt_provider.model.refusals import DiskFull
from services.libvirt_provider.store import MachineStore

DISK = "64k"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "ft-full", str(directory)], check=True, timeout=10)
    yield directory
    subprocess.run(["umount", str(directory)], check=True, timeout=10)


def machine(identity: str) -> Record:
    record = Record(pb.Machine(), cpus=1, memory=1)
    record.machine.metadata.id = identity
    return record


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        # The write that reaches the end of the disk is cut short, the next one takes nothing.
        while shutil.disk_usage(file.parent).free:
            ballast.write(bytes(4096))


async def test_a_write_that_does_not_fit_changes_nothing(disk: Path) -> None:
    store = MachineStore(disk / "machines")
    store.load()
    await store.create(machine("stored"))
    fill(disk / "ballast")

    with pytest.raises(DiskFull, match="No space left on device"):
        await store.create(machine("refused"))
    with pytest.raises(DiskFull):
        await store.update("stored", lambda record: setattr(record, "memory", 2))

    assert [path.name for path in (disk / "machines").iterdir()] == ["stored"]
    assert [(record.id, record.memory) for record in store] == [("stored", 1)]

    (disk / "ballast").unlink()
    await store.create(machine("refused"))
    again = MachineStore(disk / "machines")
    again.load()
    assert {record.id for record in again} == {"stored", "refused"}
