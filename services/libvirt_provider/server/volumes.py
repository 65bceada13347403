"""Volumes of a machine: attach, detach, update."""

from __future__ import annotations

from typing import Any

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.model import machine as rules
from services.libvirt_provider.server.answers import Calls, refusing, required


class VolumeCalls(Calls):
    """Calls about volumes. What they ask for happens soon after; the machine's status tells."""

    @refusing
    async def AttachVolume(self, request: pb.AttachVolumeRequest, context: Any) -> pb.AttachVolumeResponse:
        """Adds a volume to the machine."""
        required(request, "machine_id", "volume")
        await self.store.update(request.machine_id, lambda record: rules.attach_volume(record, request.volume))
        return pb.AttachVolumeResponse()

    @refusing
    async def DetachVolume(self, request: pb.DetachVolumeRequest, context: Any) -> pb.DetachVolumeResponse:
        """Takes a volume away; its status is listed until the guest has let go of it."""
        required(request, "machine_id", "name")
        await self.store.update(request.machine_id, lambda record: rules.detach_volume(record, request.name))
        return pb.DetachVolumeResponse()

    @refusing
    async def UpdateVolume(self, request: pb.UpdateVolumeRequest, context: Any) -> pb.UpdateVolumeResponse:
        """Tells that a volume has grown, or has other credentials."""
        required(request, "machine_id", "volume")
        await self.store.update(request.machine_id, lambda record: rules.update_volume(record, request.volume))
        return pb.UpdateVolumeResponse()
