"""Reads the packets that the programs record for us, out of their ring buffer."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.dpservice.engine.capture import FIRST, Points
from services.dpservice.engine.pins import Pins
from services.dpservice.engine.ringbuf import RingBuffer

LEASE_SECONDS: Final = 3.0
"""How long the programs go on recording for a reader that says nothing."""
RECORD_MAX: Final = 16384  # as in layout_services.h


@dataclass(frozen=True)
class Recorded:
    """A packet at a point. `time`: ns since 1970; `outgoing`: towards the guest or the wire."""

    time: int
    point: int
    outgoing: bool
    length: int
    data: bytes


class Recorder:
    """The one reader of a host; a context manager. Raises OSError: EWOULDBLOCK when there is another one."""

    def __init__(self, bpf_root: Path, points: Mapping[int, int], snap_length: int) -> None:
        self._root, self._wanted, self._snap_length = bpf_root, points, min(snap_length, RECORD_MAX)
        self._pins = Pins(bpf_root)
        self._points = Points(self._pins.map("recorded"))
        self._recorder, self._layout = self._pins.map("recorder"), self._pins.layout("recorder")
        self._record = self._pins.layout("record")
        self._start_of_clock = time.time_ns() - time.monotonic_ns()
        self._renewed = 0.0

    @contextmanager
    def recording(self) -> Iterator[Recorder]:
        """Makes the programs record, and lets them stop at the end."""
        lock = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._ring = RingBuffer(self._root / "records")
            self._ring.drain()  # what a reader before us left
            self._recorder.put(FIRST, self._layout.pack(length=self._snap_length))
            self._renew()
            self._points.set(self._wanted)
            try:
                yield self
            finally:
                self._points.set({})
                self._ring.close()
        finally:
            os.close(lock)

    def packets(self, seconds: float) -> Iterator[Recorded]:
        """What was recorded, after waiting so long at most for the first."""
        if time.monotonic() > self._renewed + LEASE_SECONDS / 3:
            self._renew()
        for raw in self._ring.poll(seconds):
            yield self._read(raw)

    @property
    def lost(self) -> int:
        """Packets for which there was no room in the buffer."""
        return self._layout.number(self._recorder.get(FIRST) or b"", "lost")

    def _renew(self) -> None:
        self._renewed = time.monotonic()
        until = time.monotonic_ns() + int(LEASE_SECONDS * 1e9)
        raw = self._recorder.get(FIRST) or bytes(self._layout.size)
        self._recorder.put(FIRST, self._layout.changed(raw, until=until))

    def _read(self, raw: bytes) -> Recorded:
        number = self._record.number
        start = self._record.members["data"].offset
        return Recorded(
            time=self._start_of_clock + number(raw, "time"),
            point=number(raw, "point"),
            outgoing=number(raw, "direction") == 2,
            length=number(raw, "length"),
            data=raw[start : start + number(raw, "kept")],
        )
