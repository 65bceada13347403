"""What a volume becomes: a disk of the domain. One plugin per kind of volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.images.cache import Image
from services.libvirt_provider.model.devices import Disk


class VolumePlugin(Protocol):
    """Makes disks of volumes of one kind."""

    def handles(self, volume: pb.Volume) -> bool:
        """Whether the volume is of this kind."""
        ...

    async def ensure(self, machine_id: str, volume: pb.Volume, image: Image | None) -> Disk:
        """Makes what the disk needs on the host, once; `image` is the one that the volume names."""
        ...

    async def release(self, machine_id: str, volume: pb.Volume) -> None:
        """Removes it again, after the guest has let go; what is not there is fine."""
        ...


class Volumes:
    """All plugins; a checked volume fits exactly one."""

    def __init__(self, plugins: Sequence[VolumePlugin]) -> None:
        self._plugins = plugins

    async def ensure(self, machine_id: str, volume: pb.Volume, image: Image | None) -> Disk:
        """See VolumePlugin.ensure."""
        return await self._plugin(volume).ensure(machine_id, volume, image)

    async def release(self, machine_id: str, volume: pb.Volume) -> None:
        """See VolumePlugin.release."""
        await self._plugin(volume).release(machine_id, volume)

    def _plugin(self, volume: pb.Volume) -> VolumePlugin:
        for plugin in self._plugins:
            if plugin.handles(volume):
                return plugin
        raise ValueError(f"no plugin handles volume {volume.name!r}")
