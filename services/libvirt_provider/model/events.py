"""What happened to machines lately: a bounded ring of events. Times are unix seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from protos.iri.event.v1alpha1 import event_pb2
from protos.iri.machine.v1alpha1 import machine_pb2 as pb

NORMAL: Final = "Normal"
WARNING: Final = "Warning"
MAX_EVENTS: Final = 100
TTL_SECONDS: Final = 300


class EventRing:
    """The newest events of all machines together; the oldest is overwritten, an old one expires.

    An event equal to the latest of its machine only renews its time: a retry loop must not push out the others.
    """

    def __init__(self, capacity: int = MAX_EVENTS, ttl: int = TTL_SECONDS) -> None:
        self._ring: deque[event_pb2.EventSpec] = deque(maxlen=capacity)
        self._ttl = ttl

    def record(self, machine: pb.Machine, type: str, reason: str, action: str, message: str, now: int) -> None:
        """Adds an event with the machine's metadata as they are now."""
        event = event_pb2.EventSpec(
            involved_object_meta=machine.metadata,
            reason=reason,
            message=message,
            type=type,
            event_time=now,
            action=action,
        )
        for past in reversed(self._ring):
            if past.involved_object_meta.id == machine.metadata.id:
                if (past.reason, past.message) == (reason, message):
                    self._ring.remove(past)
                break
        self._ring.append(event)

    def select(self, wanted: pb.EventFilter, now: int) -> list[event_pb2.Event]:
        """Unexpired events, oldest first; the time window counts only when both of its bounds are set."""
        while self._ring and self._ring[0].event_time < now - self._ttl:
            self._ring.popleft()
        return [event_pb2.Event(spec=event) for event in self._ring if _fits(event, wanted)]


def labels_fit(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether every pair of the selector is among the labels."""
    return all(labels.get(key) == value for key, value in selector.items())


def _fits(event: event_pb2.EventSpec, wanted: pb.EventFilter) -> bool:
    meta = event.involved_object_meta
    if wanted.id and meta.id != wanted.id:
        return False
    if not labels_fit(meta.labels, wanted.label_selector):
        return False
    if wanted.events_from_time > 0 and wanted.events_to_time > 0:
        return wanted.events_from_time <= event.event_time <= wanted.events_to_time
    return True
