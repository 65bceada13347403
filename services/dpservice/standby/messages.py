"""Flow updates as messages, cut into parts that gRPC carries, and put together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address
from typing import Final

from protos.dpservice.v1 import standby_pb2 as pb
from services.dpservice.engine.interface import FlowUpdate, GuestState, SharedTables
from services.dpservice.model.rows import PortNumber
from services.dpservice.model.underlay import UnderlayAddress

PART: Final = 10_000
"""Flows in a message: about a megabyte."""


class Garbled(Exception):
    """The other side sent what can't be an update."""


def parts(update: FlowUpdate) -> Iterator[pb.StateUpdate]:
    """The messages of one round."""
    entries = list(update.flows.items())
    guests = [
        pb.GuestState(port=number, underlay=guest.underlay.packed, mac=guest.mac)
        for number, guest in update.guests.items()
    ]
    for start in range(0, max(1, len(entries)), PART):
        chunk = entries[start : start + PART]
        present = [(key, value) for key, value in chunk if value is not None]
        yield pb.StateUpdate(
            fresh=update.fresh and not start,
            guests=[] if start else guests,
            keys=b"".join([key for key, _ in present]),
            values=b"".join([value for _, value in present]),
            removed=b"".join([key for key, value in chunk if value is None]),
            complete=start + PART >= len(entries),
        )


def told(tables: SharedTables) -> pb.Tables:
    """Where tables are, as a message."""
    return pb.Tables(kernel=tables.kernel, numbers=tables.numbers)


def tables_of(message: pb.StateUpdate) -> SharedTables:
    """Where the sender's tables are; of a sender that does not tell, nowhere."""
    return SharedTables(message.tables.kernel, dict(message.tables.numbers))


def rounds(messages: Iterable[pb.StateUpdate], key_size: int, value_size: int) -> Iterator[FlowUpdate]:
    """The updates that the messages of a stream are parts of. Raises Garbled."""
    fresh, guests, flows = False, dict[PortNumber, GuestState](), dict[bytes, bytes | None]()
    for message in messages:
        fresh = fresh or message.fresh
        for guest in message.guests:
            if len(guest.underlay) != 16 or len(guest.mac) not in (0, 6):
                raise Garbled("a guest's addresses")
            guests[PortNumber(guest.port)] = GuestState(UnderlayAddress(IPv6Address(guest.underlay)), guest.mac)
        keys, values = _cut(message.keys, key_size), _cut(message.values, value_size)
        if len(keys) != len(values):
            raise Garbled("keys and values of flows")
        flows.update(zip(keys, values, strict=True))
        flows.update(dict.fromkeys(_cut(message.removed, key_size)))
        if message.complete:
            yield FlowUpdate(fresh, guests, flows)
            fresh, guests, flows = False, {}, {}


def _cut(raw: bytes, size: int) -> list[bytes]:
    if (size == 0 and raw) or (size and len(raw) % size):
        raise Garbled("an entry is cut short")
    return [raw[start : start + size] for start in range(0, len(raw), size)] if size else []
