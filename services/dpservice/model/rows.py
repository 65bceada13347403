"""The vocabulary: keys, rows, and the change of one row. An engine gets changes and gives back rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NewType, TypeAlias

from services.dpservice.model.underlay import UnderlayAddress

Vni = NewType("Vni", int)
PortNumber = NewType("PortNumber", int)
InterfaceId = NewType("InterfaceId", str)
IPNetwork: TypeAlias = IPv4Network | IPv6Network
IPAddress: TypeAlias = IPv4Address | IPv6Address


class FunctionKind(IntEnum):
    """What an underlay address stands for; the numbers are DPDKironcore's."""

    INTERFACE = 1
    ALIAS_PREFIX = 6


@dataclass(frozen=True)
class Interface:
    """A guest's attachment. Addresses are None when the guest has none of that family."""

    id: InterfaceId
    port: PortNumber
    device: str
    vni: Vni
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    underlay: UnderlayAddress
    hostname: str = ""
    next_server: str = ""
    boot_filename: str = ""


@dataclass(frozen=True)
class Port:
    """What packets need to know of an interface."""

    device: str
    vni: Vni
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    underlay: UnderlayAddress
    dhcp_reply: bytes


@dataclass(frozen=True)
class LocalHop:
    """Delivered to a guest of this host."""

    port: PortNumber


@dataclass(frozen=True)
class RemoteHop:
    """Tunnelled to another host. The VNI is kept for whoever lists routes and never travels."""

    underlay: UnderlayAddress
    vni: Vni


Hop: TypeAlias = LocalHop | RemoteHop


@dataclass(frozen=True)
class Function:
    """The owner of an underlay address. `prefix` is set for alias prefixes."""

    kind: FunctionKind
    vni: Vni
    port: PortNumber
    prefix: IPNetwork | None = None


@dataclass(frozen=True)
class InterfaceKey:
    """An interface by its id."""

    id: InterfaceId


@dataclass(frozen=True)
class PortKey:
    """A guest port by its number, which an interface keeps for life."""

    number: PortNumber


@dataclass(frozen=True)
class RouteKey:
    """A prefix in a VNI."""

    vni: Vni
    prefix: IPNetwork


@dataclass(frozen=True)
class FunctionKey:
    """An underlay address of this host."""

    underlay: UnderlayAddress


Key: TypeAlias = InterfaceKey | PortKey | RouteKey | FunctionKey
Row: TypeAlias = Interface | Port | Hop | Function
Rows: TypeAlias = dict[Key, Row]


@dataclass(frozen=True)
class Change:
    """A row that appears (`before` is None), goes (`after` is None) or changes."""

    key: Key
    before: Row | None
    after: Row | None


def inverted(changes: Sequence[Change]) -> list[Change]:
    """What takes `changes` back, last first."""
    return [Change(change.key, before=change.after, after=change.before) for change in reversed(changes)]


def difference(found: Rows, wanted: Rows) -> list[Change]:
    """What makes `wanted` of `found`: what goes before what comes, ports after what refers to them and vice versa."""
    gone = [Change(key, row, None) for key, row in found.items() if key not in wanted]
    fresh = [Change(key, found.get(key), row) for key, row in wanted.items() if found.get(key) != row]
    return sorted(gone, key=_ports_last) + sorted(fresh, key=_ports_last, reverse=True)


def _ports_last(change: Change) -> bool:
    return isinstance(change.key, PortKey)


def apply_to(rows: Rows, changes: Iterable[Change]) -> None:
    """Puts changes into a plain table of rows."""
    for change in changes:
        if change.after is None:
            rows.pop(change.key, None)
        else:
            rows[change.key] = change.after
