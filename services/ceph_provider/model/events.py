"""What happened to volumes lately: a bounded ring of events. Times are Unix seconds."""

from __future__ import annotations

from collections import deque
from typing import Final

from protos.iri.event.v1alpha1 import event_pb2
from protos.iri.volume.v1alpha1 import volume_pb2 as pb
from services.ceph_provider.model.volume import labels_fit

NORMAL: Final = "Normal"
WARNING: Final = "Warning"
MAX_EVENTS: Final = 100
TTL_SECONDS: Final = 300


class EventRing:
    """The newest events of all volumes together; the oldest is overwritten, an old one expires.

    An event equal to the latest of its volume only renews its time: a retry loop must not push out the others.
    """

    def __init__(self, capacity: int = MAX_EVENTS, ttl: int = TTL_SECONDS) -> None:
        self._ring: deque[event_pb2.EventSpec] = deque(maxlen=capacity)
        self._ttl = ttl

    def record(self, volume: pb.Volume, type: str, reason: str, action: str, message: str, now: int) -> bool:
        """Adds an event with the volume's metadata as they are now; False when it only repeats the latest."""
        event = event_pb2.EventSpec(
            involved_object_meta=volume.metadata,
            reason=reason,
            message=message,
            type=type,
            event_time=now,
            action=action,
        )
        latest = next((past for past in reversed(self._ring) if _about(past) == _about(event)), None)
        if latest is not None and (latest.reason, latest.message) == (reason, message):
            self._ring.remove(latest)
            self._ring.append(event)
            return False
        self._ring.append(event)
        return True

    def select(self, wanted: pb.EventFilter, now: int) -> list[event_pb2.Event]:
        """Unexpired events, oldest first; the time window counts only when both of its bounds are set."""
        while self._ring and self._ring[0].event_time < now - self._ttl:
            self._ring.popleft()
        return [event_pb2.Event(spec=event) for event in self._ring if _fits(event, wanted)]


def _about(event: event_pb2.EventSpec) -> str:
    return event.involved_object_meta.id


def _fits(event: event_pb2.EventSpec, wanted: pb.EventFilter) -> bool:
    if wanted.id and _about(event) != wanted.id:
        return False
    if not labels_fit(event.involved_object_meta.labels, wanted.label_selector):
        return False
    if wanted.events_from_time > 0 and wanted.events_to_time > 0:
        return wanted.events_from_time <= event.event_time <= wanted.events_to_time
    return True
