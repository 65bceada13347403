"""Disks in files of this host: empty ones, and copies of an image's root disk."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from pathlib import Path
from typing import Final

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.images.cache import Image
from services.libvirt_provider.layout import FOLDER_MODE, LOCAL_DISK_PLUGIN, StateDirectory
from services.libvirt_provider.model import naming
from services.libvirt_provider.model.devices import Disk, FileSource

DEFAULT_BYTES: Final = 500 * 1024 * 1024
# ioctl_ficlone(2): the copy shares its blocks with the original, where the file system can.
FICLONE: Final = 0x40049409
COPY_BYTES: Final = 4 * 1024 * 1024


class LocalDisks:
    """Raw, sparse files in the machine's directory. The size is fixed when the file is made."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state

    def handles(self, volume: pb.Volume) -> bool:
        return volume.HasField("local_disk")

    async def ensure(self, machine_id: str, volume: pb.Volume, image: Image | None) -> Disk:
        path = self._state.machine(machine_id).local_disk(volume.name)
        if not path.exists():
            source = image.rootfs if image else None
            await asyncio.to_thread(_create, path, volume.local_disk.size_bytes, source)
        return Disk(
            volume=volume.name,
            device=volume.device,
            identity=naming.local_disk_identity(machine_id, volume.name),
            source=FileSource(path),
            handle=f"{LOCAL_DISK_PLUGIN}/{volume.name}",
        )

    async def release(self, machine_id: str, volume: pb.Volume) -> None:
        folder = self._state.machine(machine_id).local_disk(volume.name).parent
        if folder.exists():
            await asyncio.to_thread(shutil.rmtree, folder)


def _create(path: Path, size: int, source: Path | None) -> None:
    """Makes the file whole or not at all; at least as long as its source."""
    for folder in (path.parent.parent.parent, path.parent.parent, path.parent):
        folder.mkdir(exist_ok=True, mode=FOLDER_MODE)
    temporary = path.with_name(".disk.raw")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        copied = _copy(source, descriptor) if source else 0
        os.ftruncate(descriptor, max(size, copied) or DEFAULT_BYTES)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)


def _copy(source: Path, target: int) -> int:
    """Copies a file without its holes and blocks of zeros; returns its length."""
    with source.open("rb") as file:
        try:
            fcntl.ioctl(target, FICLONE, file.fileno())
            return source.stat().st_size
        except OSError:
            pass  # another file system, or one that can't share blocks
        zeros, offset = bytes(COPY_BYTES), 0
        while chunk := file.read(COPY_BYTES):
            if chunk != zeros[: len(chunk)]:
                os.pwrite(target, chunk, offset)
            offset += len(chunk)
        return offset
