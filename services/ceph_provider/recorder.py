"""Records events of volumes, with the time."""

from __future__ import annotations

import time

from protos.iri.event.v1alpha1 import event_pb2
from protos.iri.volume.v1alpha1 import volume_pb2 as pb
from services.ceph_provider.model.events import NORMAL, WARNING, EventRing
from services.ceph_provider.model.record import Record
from services.ceph_provider.model.volume import to_iri
from services.common.logs import get_logger

log = get_logger(__name__)


class Recorder:
    """The event ring by the wall clock; each new event is also a log line."""

    def __init__(self) -> None:
        self._ring = EventRing()

    def normal(self, record: Record, reason: str, action: str, message: str) -> None:
        """Something went as it should."""
        if self._record(record, NORMAL, reason, action, message):
            log.info("volume event", volume=record.id, reason=reason, message=message)

    def warning(self, record: Record, reason: str, action: str, message: str) -> None:
        """Somebody should look."""
        if self._record(record, WARNING, reason, action, message):
            log.warning("volume event", volume=record.id, reason=reason, message=message)

    def select(self, wanted: pb.EventFilter) -> list[event_pb2.Event]:
        """Events that have not expired, oldest first."""
        return self._ring.select(wanted, int(time.time()))

    def _record(self, record: Record, type: str, reason: str, action: str, message: str) -> bool:
        return self._ring.record(to_iri(record, ""), type, reason, action, message, int(time.time()))
