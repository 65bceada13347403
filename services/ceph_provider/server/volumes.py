"""Volumes: create, list, expand, delete."""

from __future__ import annotations

import time
from typing import Any

from protos.iri.volume.v1alpha1 import volume_pb2 as pb
from services.ceph_provider.model import names
from services.ceph_provider.model import volume as rules
from services.ceph_provider.model.record import Record
from services.ceph_provider.model.refusals import NotFound
from services.ceph_provider.server.answers import Calls, answers, required
from services.common.telemetry_context import traceparent


class VolumeCalls(Calls):
    """Calls about volumes."""

    @answers
    async def ListVolumes(self, request: pb.ListVolumesRequest, context: Any) -> pb.ListVolumesResponse:
        """All that fit the filter, oldest first; an unknown id gives an empty list. Secrets are included."""
        wanted = request.filter
        if wanted.id:
            record = await self.store.get(wanted.id)
            records = [record] if record else []
        else:
            records = await self.store.list()
        volumes = [self._volume(record) for record in records if rules.managed(record)]
        return pb.ListVolumesResponse(
            volumes=[each for each in volumes if rules.labels_fit(each.metadata.labels, wanted.label_selector)]
        )

    @answers
    async def CreateVolume(self, request: pb.CreateVolumeRequest, context: Any) -> pb.CreateVolumeResponse:
        """Stores the volume and answers; it is made afterwards. An id that the client sends is ignored.

        With a volumepoollet's uid label a repeated call answers the volume that the first one made.
        """
        required(request, "volume")
        required(request.volume, "metadata", "spec", within="volume.")
        required(request.volume.spec, "resources", within="volume.spec.")
        volume_class = rules.check_new(request.volume, self.classes)
        uid = request.volume.metadata.labels.get(names.UID_LABEL)
        record = rules.new_record(
            request.volume,
            volume_class,
            names.id_for_uid(uid) if uid else names.random_id(),
            names.random_wwn(),
            time.time_ns(),
        )
        record.metadata.traceparent = traceparent()
        present = await self.store.create(record)
        answer = record if present is None else rules.same_order(present, record)
        return pb.CreateVolumeResponse(volume=self._volume(answer))

    @answers
    async def ExpandVolume(self, request: pb.ExpandVolumeRequest, context: Any) -> pb.ExpandVolumeResponse:
        """Stores the new size; the image grows afterwards, while it is in use, too."""
        required(request, "volume_id", "resources")

        def expand(record: Record) -> None:
            _known(record)
            rules.expand(record, request.resources.storage_bytes)
            record.metadata.traceparent = traceparent()

        await self.store.update(request.volume_id, expand)
        return pb.ExpandVolumeResponse()

    @answers
    async def DeleteVolume(self, request: pb.DeleteVolumeRequest, context: Any) -> pb.DeleteVolumeResponse:
        """Begins the deletion; the volume is listed until it is gone, which waits for those who use it."""
        required(request, "volume_id")

        def delete(record: Record) -> None:
            _known(record)
            if not record.deleting:
                record.metadata.traceparent = traceparent()
            rules.mark_deleted(record, time.time_ns())

        await self.store.update(request.volume_id, delete)
        return pb.DeleteVolumeResponse()

    def _volume(self, record: Record) -> pb.Volume:
        return rules.to_iri(record, self.cluster.address.monitors, failed=self.reconciler.failed(record.id))


def _known(record: Record) -> None:
    """What clients don't see they can't change."""
    if not rules.managed(record):
        raise NotFound(f"volume {record.id!r} not found")
