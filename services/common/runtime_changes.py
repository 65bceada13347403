"""The server of ferrite.runtime.v1alpha1.RuntimeChanges, which providers offer beside the runtime interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from protos.runtime.v1alpha1 import changes_pb2 as pb
from protos.runtime.v1alpha1 import changes_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["RuntimeChanges"].full_name


class RuntimeChanges(changes_pb2_grpc.RuntimeChangesServicer):
    """Tells all watchers of each change. Used from one event loop."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Event] = set()

    def note(self) -> None:
        """Something is different in what lists show."""
        for changed in self._watchers:
            changed.set()

    async def WatchChanges(self, request: pb.WatchChangesRequest, context: Any) -> AsyncIterator[Any]:
        """A message at once, then one after changes; those that come while one is being sent share the next."""
        changed = asyncio.Event()
        changed.set()
        self._watchers.add(changed)
        try:
            while True:
                await changed.wait()
                changed.clear()
                yield pb.WatchChangesResponse()
        finally:
            self._watchers.discard(changed)
