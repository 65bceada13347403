"""Events for people: what a process did to an object, and why. Rules of repetition in `series.py`.

events = manager.recorder("machine-scheduler")
events.event(machine, "Normal", "Scheduled", "chose pool p1", action="Schedule")
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Final

from google.protobuf.message import Message
from prometheus_client import Counter

from protos.k8s.core.v1.references_pb2 import ObjectReference
from protos.k8s.events.v1.event_pb2 import Event
from protos.k8s.events.v1.event_pb2 import EventSeries as EventSeriesMessage
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import metadata_of
from services.apimachinery.errors import AlreadyExists, ApiError, NotFound, Timeout, TooManyRequests, Unavailable
from services.apimachinery.kinds import kind_of
from services.apimachinery.runtime.series import EventSeries, Occurrence, Series, Subject
from services.apimachinery.runtime.times import micro_time
from services.apimachinery.schema.times import format_micro_time
from services.common.logs import get_logger
from services.common.tasks import Backoff

log = get_logger(__name__)

NORMAL: Final = "Normal"
WARNING: Final = "Warning"

NOTE_LIMIT: Final = 1024
"""Bytes of a note (events.k8s.io/v1)."""
CLUSTER_EVENTS_NAMESPACE: Final = "default"
"""Where events of cluster-scoped objects live, as in Kubernetes."""

DROPPED = Counter("ferrite_events_dropped", "Events not written: too many of one object, or refused.", ["controller"])


class EventRecorder:
    """Writes events.k8s.io/v1 Events in the background; `event` never waits and never fails the caller."""

    def __init__(self, client: Client, controller: str, instance: str = "") -> None:
        self._client = client
        self._controller = controller
        self._instance = instance or f"{controller}-{socket.gethostname()}"
        self._series = EventSeries()
        self._changed = asyncio.Event()
        self._backoff = Backoff()

    def event(self, obj: Message, type: str, reason: str, message: str, *, action: str = "") -> None:
        """Says that something happened to a stored object.

        `type` is Normal or Warning, `reason` one CamelCase word for machines, `message` a sentence for people,
        `action` what was being done (the reason when empty). Equal events are counted as a series.
        """
        if type not in (NORMAL, WARNING):
            raise ValueError(f"event type {type!r} is not Normal or Warning")
        metadata, kind = metadata_of(obj), kind_of(obj.__class__)
        subject = Subject(kind.api_version, kind.name, metadata.namespace, metadata.name, metadata.uid)
        note = message.encode()[:NOTE_LIMIT].decode(errors="ignore")
        if not self._series.record(Occurrence(subject, type, reason, action or reason, note), _now(), time.time()):
            DROPPED.labels(self._controller).inc()
        self._changed.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await self.flush()
            self._changed.clear()
            at = self._series.next_at()
            try:
                async with asyncio.timeout(None if at is None else max(0.0, at - _now())):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def flush(self) -> None:
        """Writes what is due now."""
        for series in self._series.due(_now()):
            try:
                await self._write(series)
            except (Unavailable, Timeout, TooManyRequests) as error:
                delay = self._backoff.next()
                self._series.postpone(series, _now() + delay)
                log.warning("event was postponed", reason=series.occurrence.reason, error=error.message)
            except ApiError as error:
                self._series.drop(series)
                DROPPED.labels(self._controller).inc()
                log.warning("event was refused", reason=series.occurrence.reason, error=error.message)
            else:
                self._backoff.reset()

    async def _write(self, series: Series) -> None:
        count = series.count
        namespace = series.occurrence.subject.namespace or CLUSTER_EVENTS_NAMESPACE
        if series.written == 0:
            try:
                await self._client.create(self._event(series, namespace))
            except AlreadyExists:
                pass  # an earlier attempt got through and only its answer was lost
        else:
            last = micro_time(series.last)
            observed = format_micro_time(last.seconds, last.nanos)
            patch = {"series": {"count": count, "lastObservedTime": observed}}
            try:
                await self._client.patch(Event, series.name, patch, namespace)
            except NotFound:
                self._series.restart(series)
                return
        self._series.written(series, count, _now())

    def _event(self, series: Series, namespace: str) -> Event:
        occurrence, subject = series.occurrence, series.occurrence.subject
        event = Event(
            metadata=ObjectMeta(name=series.name, namespace=namespace),
            event_time=micro_time(series.first),
            reporting_controller=self._controller,
            reporting_instance=self._instance,
            action=occurrence.action,
            reason=occurrence.reason,
            note=occurrence.note,
            type=occurrence.type,
            regarding=ObjectReference(
                api_version=subject.api_version,
                kind=subject.kind,
                namespace=subject.namespace,
                name=subject.name,
                uid=subject.uid,
            ),
        )
        if series.count > 1:
            event.series.CopyFrom(EventSeriesMessage(count=series.count, last_observed_time=micro_time(series.last)))
        return event


def _now() -> float:
    return time.monotonic()
