"""What packets see of the model: interfaces become ports with a finished DHCP reply, alias prefixes plain functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from services.dpservice.guest.dhcp import GuestServices, reply_frame
from services.dpservice.model.rows import (
    AnyChange,
    Change,
    Function,
    Interface,
    InterfaceKey,
    Key,
    Port,
    PortKey,
    RouteChanges,
    Row,
)


def packet_changes(changes: Iterable[AnyChange], services: GuestServices) -> list[AnyChange]:
    """The same changes in an engine's vocabulary, in the same order."""
    return [_seen(change, services) for change in changes]


def _seen(change: AnyChange, services: GuestServices) -> AnyChange:
    if isinstance(change, RouteChanges):
        return change
    return Change(_key(change), _row(change.before, services), _row(change.after, services))


def _key(change: Change) -> Key:
    if isinstance(change.key, InterfaceKey):
        interface = change.after or change.before
        if not isinstance(interface, Interface):
            raise TypeError(f"no interface in {change}")
        return PortKey(interface.port)
    return change.key


def _row(row: Row | None, services: GuestServices) -> Row | None:
    match row:
        case Interface():
            reply = reply_frame(row.ipv4, row.hostname, services) if row.ipv4 else b""
            return Port(row.device, row.vni, row.ipv4, row.ipv6, row.underlay, reply)
        case Function():
            return replace(row, prefix=None)
    return row
