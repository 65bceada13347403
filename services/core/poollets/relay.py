"""Brings the runtime's events to the objects they are about. IRI has no watch for events: the last seconds are read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import grpc

from protos.iri.event.v1alpha1.event_pb2 import Event
from services.common.logs import get_logger

log = get_logger(__name__)

PERIOD: Final = 3.0
OVERLAP: Final = 5
"""Seconds of which each window repeats the one before: events carry whole seconds, and may be listed late."""

Fetch = Callable[[int, int], Awaitable[Iterable[Event]]]


class EventRelay:
    """Calls `publish` once for each event; `fetch(since, until)` lists a window, in Unix seconds."""

    def __init__(self, fetch: Fetch, publish: Callable[[Event], None], period: float = PERIOD) -> None:
        self._fetch, self._publish, self._period = fetch, publish, period
        self._until = int(time.time())
        self._seen: set[bytes] = set()

    async def run(self) -> None:
        """Until cancelled; what happened while the runtime could not be asked is fetched later."""
        while True:
            try:
                await self.turn(int(time.time()))
            except grpc.aio.AioRpcError as error:
                log.warning("runtime's events could not be listed", code=error.code().name, details=error.details())
            await asyncio.sleep(self._period)

    async def turn(self, now: int) -> None:
        """Publishes what is new up to `now`."""
        listed = {event.SerializeToString(deterministic=True): event for event in await self._fetch(self._since, now)}
        for encoded, event in listed.items():
            if encoded not in self._seen:
                self._publish(event)
        self._seen, self._until = set(listed), now

    @property
    def _since(self) -> int:
        return self._until - OVERLAP
