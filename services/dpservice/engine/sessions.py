"""Guests' sessions with virtual services from one data plane to another.

A session is who has which source port of a service; all other tables of sessions follow from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.dpservice.engine import libbpf
from services.dpservice.engine.codec import Codec, u32
from services.dpservice.engine.flows import now
from services.dpservice.model.rows import PortNumber

OVER: Final = 1 << 31  # of what is left in ticks, which begin anew after some years
NEWS_TICKS: Final = 37  # of 134 ms: a later expiry is news from five seconds on


class SessionTransfer:
    """The sessions of an engine, for both directions. Calls raise OSError."""

    def __init__(self, loaded: libbpf.Object, codec: Codec) -> None:
        self._service, self._session = codec.layouts["service"], codec.layouts["session"]
        self._place, self._key = codec.layouts["source_port_key"], codec.layouts["session_key"]
        self._services, self._places = loaded.map("services"), loaded.map("source_ports")
        self._sessions, self._counts = loaded.map("sessions"), loaded.map("session_counts")
        self._unplaced: dict[bytes, bytes] = {}  # of ports that are not here yet

    @property
    def sizes(self) -> tuple[int, int]:
        """Of a place and of a session, in bytes."""
        return self._place.size, self._session.size

    def services(self) -> bytes:
        """The entries of all services, one after the other."""
        return b"".join(self._services.values()).rstrip(b"\0")

    def present(self, epochs: Mapping[PortNumber, int]) -> dict[bytes, bytes]:
        """Sessions that somebody has."""
        layout, clock = self._session, now()
        return {
            place: raw
            for place, raw in self._places.items()
            if (layout.number(raw, "expires") - clock) & OVER == 0
            and layout.number(raw, "epoch") == epochs[PortNumber(layout.number(raw, "guest"))]
        }

    def is_news(self, old: bytes, new: bytes) -> bool:
        """Does a follower have to know of the difference? Not of every second that a session lives longer."""
        expires = (self._session.number(new, "expires") - self._session.number(old, "expires")) & 0xFFFFFFFF
        if NEWS_TICKS < expires < 0x100000000 - NEWS_TICKS:
            return True
        return self._session.changed(old, expires=self._session.bytes(new, "expires")) != new

    def same_services(self, told: bytes, *, take_last: bool) -> set[int]:
        """The services that are the same there and here, by index.

        With `take_last` their ports are given out here from where it was there.
        """
        size, same = self._service.size, set()
        told += bytes(-len(told) % size)
        for index, own in enumerate(self._services.values()):
            other = told[index * size : (index + 1) * size]
            if not other or not self._service.number(own, "used"):
                continue
            last = self._service.bytes(other, "last")
            if self._service.changed(own, last=last) == other:
                same.add(index)
                if take_last and other != own:
                    self._services.put(u32(index), other)
        return same

    def receive(
        self,
        services: bytes,
        sessions: Mapping[bytes, bytes | None],
        here: Mapping[PortNumber, PortNumber],
        epochs: Mapping[PortNumber, int],
        *,
        fresh: bool,
    ) -> None:
        """Puts sessions in that no packet uses yet. `here`: our numbers of the other engine's ports."""
        if fresh:
            self._unplaced.clear()
            self._places.clear()
            self._sessions.clear()
        if not sessions and not self._unplaced:
            return
        same, layout = self.same_services(services, take_last=True), self._session
        arrived: dict[bytes, bytes | None] = {**self._unplaced, **sessions}
        self._unplaced.clear()
        for place, raw in arrived.items():
            self._forget(place)
            if raw is None or self._place.number(place, "service") not in same:
                continue
            guest = here.get(PortNumber(layout.number(raw, "guest")))
            if guest is None:
                self._unplaced[place] = raw
                continue
            own = layout.changed(raw, guest=guest, epoch=epochs[guest])
            self._places.put(place, own)
            self._sessions.put(self._key_of(place, own), u32(self._place.number(place, "port")))

    def _forget(self, place: bytes) -> None:
        own = self._places.get(place)
        if own is None:
            return
        self._places.remove(place)
        key = self._key_of(place, own)
        if self._sessions.get(key) == u32(self._place.number(place, "port")):
            self._sessions.remove(key)

    def _key_of(self, place: bytes, session: bytes) -> bytes:
        """The guest's end of a session."""
        layout = self._session
        return self._key.pack(
            guest=layout.number(session, "guest"),
            address=layout.bytes(session, "address"),
            port=layout.bytes(session, "port"),
            service=self._place.number(place, "service"),
        )

    def begin_count(self) -> None:
        """Guests hold no sessions, until they are counted."""
        self._counts.zero()
