"""Flow updates as messages, cut into parts that gRPC carries, and put together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address
from typing import Final

from protos.dpservice.v1 import standby_pb2 as pb
from services.dpservice.engine.interface import FlowLayout, FlowUpdate, GuestState, SharedTables
from services.dpservice.model.rows import PortNumber, Vni
from services.dpservice.model.underlay import UnderlayAddress

PART: Final = 10_000
"""Flows in a message: about a megabyte."""


class Garbled(Exception):
    """The other side sent what can't be an update."""


def parts(update: FlowUpdate) -> Iterator[pb.StateUpdate]:
    """The messages of one round."""
    entries = list(update.flows.items())
    guests = [
        pb.GuestState(port=number, underlay=guest.underlay.packed, mac=guest.mac, device=guest.device, vni=guest.vni)
        for number, guest in update.guests.items()
    ]
    places, sessions, gone = _joined(update.sessions.items())
    first = pb.StateUpdate(
        fresh=update.fresh,
        guests=guests,
        session_places=places,
        sessions=sessions,
        sessions_removed=gone,
        services=update.services,
    )
    for start in range(0, max(1, len(entries)), PART):
        message = pb.StateUpdate() if start else first
        message.keys, message.values, message.removed = _joined(entries[start : start + PART])
        message.complete = start + PART >= len(entries)
        yield message


def _joined(entries: Iterable[tuple[bytes, bytes | None]]) -> tuple[bytes, bytes, bytes]:
    """Keys and values of entries that are there, and keys of those that are gone."""
    kept = [(key, value) for key, value in entries if value is not None]
    gone = b"".join([key for key, value in entries if value is None])
    return b"".join([key for key, _ in kept]), b"".join([value for _, value in kept]), gone


def told(tables: SharedTables) -> pb.Tables:
    """Where tables are, as a message."""
    return pb.Tables(kernel=tables.kernel, numbers=tables.numbers)


def tables_of(message: pb.StateUpdate) -> SharedTables:
    """Where the sender's tables are; of a sender that does not tell, nowhere."""
    return SharedTables(message.tables.kernel, dict(message.tables.numbers))


def rounds(messages: Iterable[pb.StateUpdate], layout: FlowLayout) -> Iterator[FlowUpdate]:
    """The updates that the messages of a stream are parts of. Raises Garbled."""
    fresh, guests, services = False, dict[PortNumber, GuestState](), b""
    flows, sessions = dict[bytes, bytes | None](), dict[bytes, bytes | None]()
    for message in messages:
        fresh = fresh or message.fresh
        for guest in message.guests:
            if len(guest.underlay) != 16 or len(guest.mac) not in (0, 6):
                raise Garbled("a guest's addresses")
            guests[PortNumber(guest.port)] = GuestState(
                UnderlayAddress(IPv6Address(guest.underlay)), guest.mac, guest.device, Vni(guest.vni)
            )
        flows.update(_entries(message.keys, message.values, message.removed, layout.key, layout.value))
        sessions.update(
            _entries(message.session_places, message.sessions, message.sessions_removed, layout.place, layout.session)
        )
        services = services or message.services
        if message.complete:
            yield FlowUpdate(fresh, guests, flows, sessions, services)
            fresh, guests, flows, sessions, services = False, {}, {}, {}, b""


def _entries(keys: bytes, values: bytes, gone: bytes, key_size: int, value_size: int) -> dict[bytes, bytes | None]:
    cut_keys, cut_values = _cut(keys, key_size), _cut(values, value_size)
    if len(cut_keys) != len(cut_values):
        raise Garbled("keys and values")
    present: dict[bytes, bytes | None] = dict(zip(cut_keys, cut_values, strict=True))
    return present | dict.fromkeys(_cut(gone, key_size))


def _cut(raw: bytes, size: int) -> list[bytes]:
    if (size == 0 and raw) or (size and len(raw) % size):
        raise Garbled("an entry is cut short")
    return [raw[start : start + size] for start in range(0, len(raw), size)] if size else []
