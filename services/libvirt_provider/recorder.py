"""Records events of machines, with the time."""

from __future__ import annotations

import time

from protos.iri.event.v1alpha1 import event_pb2
from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.common.logs import get_logger
from services.libvirt_provider.model.events import NORMAL, WARNING, EventRing

log = get_logger(__name__)


class Recorder:
    """The event ring by the wall clock; each event is also a log line."""

    def __init__(self) -> None:
        self._ring = EventRing()

    def normal(self, machine: pb.Machine, reason: str, action: str, message: str) -> None:
        """Something went as it should."""
        self._ring.record(machine, NORMAL, reason, action, message, int(time.time()))
        log.info("machine event", machine=machine.metadata.id, reason=reason, message=message)

    def warning(self, machine: pb.Machine, reason: str, action: str, message: str) -> None:
        """Somebody should look."""
        self._ring.record(machine, WARNING, reason, action, message, int(time.time()))
        log.warning("machine event", machine=machine.metadata.id, reason=reason, message=message)

    def select(self, wanted: pb.EventFilter) -> list[event_pb2.Event]:
        """Events that have not expired, oldest first."""
        return self._ring.select(wanted, int(time.time()))
