"""What of the pools' capacity is given away, by pool and class: bound objects, and bindings under way. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Booking:
    """One object's share of a pool: one machine, or so many bytes of storage."""

    pool: str
    class_name: str
    amount: int


class Ledger:
    """Bookings by the objects' uids. An object has at most one; booking again moves it."""

    def __init__(self) -> None:
        self._bookings: dict[str, Booking] = {}
        self._sums: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._bookings)

    def get(self, uid: str) -> Booking | None:
        """The booking of an object."""
        return self._bookings.get(uid)

    def book(self, uid: str, booking: Booking) -> None:
        """Notes that an object has, or is about to get, its share. ValueError for an empty uid."""
        if not uid:
            raise ValueError("only stored objects, which have a uid, can be booked")
        self.cancel(uid)
        self._bookings[uid] = booking
        self._sums[booking.pool, booking.class_name] += booking.amount

    def cancel(self, uid: str) -> None:
        """The object is gone, or its binding came to nothing. Does nothing when it has no booking."""
        booking = self._bookings.pop(uid, None)
        if booking is None:
            return
        slot = booking.pool, booking.class_name
        self._sums[slot] -= booking.amount
        if not self._sums[slot]:
            del self._sums[slot]

    def booked(self, pool: str, class_name: str) -> int:
        """The sum of all shares of a class on a pool."""
        return self._sums[pool, class_name]
