"""The one packet capture of a host."""

from __future__ import annotations

from services.dpservice.model.changes import AnyChange, Change
from services.dpservice.model.concern import Concern
from services.dpservice.model.errors import CaptureActive, CaptureInactive, NotFound
from services.dpservice.model.keys import CaptureKey
from services.dpservice.model.rows import Capture


class Captures(Concern):
    """Start, Stop, Status."""

    def capture(self) -> Capture | None:
        """What is captured; None: nothing."""
        return self.tables.capture

    def start_capture(self, wanted: Capture) -> list[AnyChange]:
        """Raises CaptureActive 210, NotFound 201 for an unknown interface."""
        if self.tables.capture is not None:
            raise CaptureActive("a capture is running")
        for point in wanted.points:
            if isinstance(point, str) and point not in self.tables.interfaces:
                raise NotFound(f"no interface {point}")
        return self._commit([Change(CaptureKey(), None, wanted)])

    def stop_capture(self) -> tuple[int, list[AnyChange]]:
        """How many interfaces and uplinks were captured. Raises CaptureInactive 211."""
        running = self.tables.capture
        if running is None:
            raise CaptureInactive("no capture is running")
        return len(running.points), self._commit([Change(CaptureKey(), running, None)])
