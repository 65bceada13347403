"""Which points packets are copied at: mirrored to a sink, or recorded for a program on this host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.dpservice.engine import hooks, libbpf
from services.dpservice.engine.codec import Codec, u32
from services.dpservice.model.packet_rows import PacketCapture

FIRST: Final = bytes(4)
FIRST_UPLINK: Final = 1024  # the point behind those of guests
ANY_UPLINK: Final = FIRST_UPLINK + 2
IN, OUT = 1, 2


class Points:
    """A table of directions by point. Every call raises OSError."""

    def __init__(self, table: libbpf.Map) -> None:
        self._table = table

    def set(self, wanted: Mapping[int, int]) -> None:
        """Sets the directions of these points, and none of all others."""
        uplinks = 0
        for point, directions in wanted.items():
            uplinks |= directions if point >= FIRST_UPLINK else 0
        self._put(ANY_UPLINK, uplinks)
        for point in range(ANY_UPLINK):
            self._put(point, wanted.get(point, 0))

    def of(self, point: int) -> int:
        """The directions of a point."""
        return int.from_bytes(self._table.get(u32(point)) or b"", "little")

    def _put(self, point: int, directions: int) -> None:
        if self.of(point) != directions:
            self._table.put(u32(point), u32(directions))


class Mirror:
    """Copies to a sink in the underlay; the first uplink's egress program wraps them. Every call raises OSError."""

    def __init__(self, maps: Mapping[str, libbpf.Map], codec: Codec, program: int) -> None:
        self._points = Points(maps["mirrored"])
        self._target, self._layout, self._program = maps["mirror"], codec.layouts["mirror"], program
        self._directions = IN | OUT
        self._wanted: PacketCapture | None = None
        self._uplinks: dict[int, int] = {}

    def configure(self, *, outgoing: bool) -> None:
        """Shall what goes out to a point be mirrored too?"""
        self._directions = IN | OUT if outgoing else IN
        self.follow(self._wanted)

    def follow(self, wanted: PacketCapture | None) -> None:
        """Mirrors this, or nothing."""
        self._wanted = wanted
        if wanted is None:
            self._points.set({})
            for ifindex in self._uplinks.values():
                hooks.detach_egress(ifindex)
            return
        raw = self._layout.pack(
            sink=wanted.sink.packed,
            source_port=wanted.source_port.to_bytes(2, "big"),
            destination_port=wanted.destination_port.to_bytes(2, "big"),
        )
        self._target.put(FIRST, raw)
        for index, ifindex in self._uplinks.items():
            self._attach(index, ifindex)
        points = [*wanted.ports, *(FIRST_UPLINK + uplink for uplink in wanted.uplinks)]
        self._points.set(dict.fromkeys(points, self._directions))

    def set_uplink(self, index: int, ifindex: int | None) -> None:
        """Tells which device an uplink is now."""
        if ifindex is None:
            self._uplinks.pop(index, None)
            return
        if self._uplinks.get(index) != ifindex:
            self._uplinks[index] = ifindex
            self._attach(index, ifindex)

    def _attach(self, index: int, ifindex: int) -> None:
        wanted = self._wanted
        if wanted is not None and (index == 0 or index in wanted.uplinks):
            hooks.attach_egress(ifindex, self._program)
        else:
            hooks.detach_egress(ifindex)
