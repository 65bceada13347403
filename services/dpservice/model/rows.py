"""The vocabulary: keys, rows, and the change of one row.

Two groups of rows: those of the model, which the journal keeps, and those of the packets, which `view.py` derives and
an engine gets and gives back. Routes, functions and neighbors are in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final, NamedTuple, NewType, TypeAlias

from services.dpservice.guest.templates import Templates
from services.dpservice.model.underlay import UnderlayAddress

Vni = NewType("Vni", int)
PortNumber = NewType("PortNumber", int)
InterfaceId = NewType("InterfaceId", str)
BalancerId = NewType("BalancerId", str)
BalancerNumber = NewType("BalancerNumber", int)
RuleId = NewType("RuleId", str)
IPNetwork: TypeAlias = IPv4Network | IPv6Network
IPInterface: TypeAlias = IPv4Interface | IPv6Interface
"""A prefix as somebody wrote it, with the bits behind its length."""
IPAddress: TypeAlias = IPv4Address | IPv6Address

ANY: Final = -1
"""Any port, ICMP type or ICMP code, as the API writes it."""


class FunctionKind(IntEnum):
    """What an underlay address stands for; the numbers are DPDKironcore's."""

    UNDEFINED = 0
    INTERFACE = 1
    VIP = 2
    NAT = 3
    BALANCER = 4
    BALANCER_PREFIX = 5
    ALIAS_PREFIX = 6


class Protocol(IntEnum):
    """IP protocol numbers that the API names."""

    UNDEFINED = 0
    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132


class Direction(IntEnum):
    """Of a firewall rule: to the guest, or from it."""

    INGRESS = 0
    EGRESS = 1


# Rows of the model


@dataclass(frozen=True, slots=True)
class Interface:
    """A guest's attachment. Addresses are None when the guest has none of that family; rates in Mbit/s, 0: unlimited.

    `public_rate` limits what leaves by a default route.
    """

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
    total_rate: int = 0
    public_rate: int = 0


@dataclass(frozen=True, slots=True)
class Vip:
    """A public address that belongs to one interface alone."""

    address: IPv4Address
    underlay: UnderlayAddress


@dataclass(frozen=True, slots=True)
class NatSlice:
    """An interface's share of a public address: ports from `min_port` on, `max_port` not included."""

    address: IPv4Address
    min_port: int
    max_port: int
    underlay: UnderlayAddress


@dataclass(frozen=True, slots=True)
class Neighbor:
    """The host that owns a foreign slice of a shared public address."""

    underlay: UnderlayAddress


@dataclass(frozen=True, slots=True)
class Balancer:
    """A load balancer. `ports` are (port, protocol) pairs, `targets` underlay addresses in ascending order."""

    id: BalancerId
    number: BalancerNumber
    ports: tuple[tuple[int, Protocol], ...]
    targets: tuple[IPv6Address, ...]
    underlay: UnderlayAddress


@dataclass(frozen=True, slots=True)
class IcmpFilter:
    """ICMP of a type and code, each maybe ANY."""

    type: int
    code: int


@dataclass(frozen=True, slots=True)
class PortFilter:
    """TCP or UDP within port ranges, both ends included; a lower end of ANY opens the range."""

    protocol: Protocol
    source_low: int
    source_high: int
    destination_low: int
    destination_high: int


ProtocolFilter: TypeAlias = IcmpFilter | PortFilter


@dataclass(frozen=True, slots=True)
class FirewallRule:
    """A rule of an interface. `filter` is None for every protocol; `order` grows with each rule of the interface.

    Source and destination stay as they were given: clients compare what they read with what they wrote.
    """

    direction: Direction
    accept: bool
    priority: int
    source: IPInterface
    destination: IPInterface
    filter: ProtocolFilter | None
    order: int


CapturedPoint: TypeAlias = InterfaceId | int
"""A guest's interface by its id, or an uplink by its index."""


@dataclass(frozen=True, slots=True)
class Capture:
    """Whose packets are mirrored to a sink, as UDP between these ports."""

    sink: IPv6Address
    source_port: int
    destination_port: int
    points: tuple[CapturedPoint, ...]


# Rows of both


@dataclass(frozen=True, slots=True)
class LocalHop:
    """Delivered to a guest of this host."""

    port: PortNumber


@dataclass(frozen=True, slots=True)
class RemoteHop:
    """Tunnelled to another host. The VNI is kept for whoever lists routes and never travels."""

    underlay: UnderlayAddress
    vni: Vni


Hop: TypeAlias = LocalHop | RemoteHop


@dataclass(frozen=True, slots=True)
class Function:
    """The owner of an underlay address.

    `prefix` is set for alias and balancer prefixes, `balancer` for balancers, whose `port` means nothing.
    """

    kind: FunctionKind
    vni: Vni
    port: PortNumber
    prefix: IPNetwork | None = None
    balancer: BalancerNumber | None = None


# Rows of the packets


@dataclass(frozen=True, slots=True)
class Port:
    """What packets need to know of an interface."""

    device: str
    vni: Vni
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    underlay: UnderlayAddress
    templates: Templates
    vip: IPv4Address | None = None
    nat: NatSlice | None = None
    total_rate: int = 0
    public_rate: int = 0


@dataclass(frozen=True, slots=True)
class Public:
    """Whose a public address is: the VIP of a port, or (None) shared by NAT."""

    port: PortNumber | None


@dataclass(frozen=True, slots=True)
class PacketBalancer:
    """What packets need to know of a balancer."""

    vni: Vni
    address: IPAddress
    ports: tuple[tuple[int, Protocol], ...]
    targets: tuple[IPv6Address, ...]
    underlay: UnderlayAddress


@dataclass(frozen=True, slots=True)
class PacketRule:
    """A firewall rule with everything decided: `protocol` UNDEFINED is any, port ranges include both ends.

    `icmp_type` and `icmp_code` may be ANY. An ICMP rule is for ICMPv6 when its prefixes are IPv6.
    """

    accept: bool
    source: IPNetwork
    destination: IPNetwork
    protocol: Protocol
    source_ports: tuple[int, int]
    destination_ports: tuple[int, int]
    icmp_type: int
    icmp_code: int


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a port in a direction, the most important one first."""

    rules: tuple[PacketRule, ...]


@dataclass(frozen=True, slots=True)
class AllowedSource:
    """The guest may send from addresses that are not its own."""


@dataclass(frozen=True, slots=True)
class PacketCapture:
    """A capture with ports instead of interfaces."""

    sink: IPv6Address
    source_port: int
    destination_port: int
    ports: tuple[PortNumber, ...]
    uplinks: tuple[int, ...]


# Keys


@dataclass(frozen=True, slots=True)
class InterfaceKey:
    """An interface by its id."""

    id: InterfaceId


@dataclass(frozen=True, slots=True)
class VipKey:
    """The VIP of an interface."""

    interface_id: InterfaceId


@dataclass(frozen=True, slots=True)
class NatKey:
    """The NAT slice of an interface."""

    interface_id: InterfaceId


@dataclass(frozen=True, slots=True)
class NeighborKey:
    """A foreign slice, `max_port` not included."""

    vni: Vni
    address: IPv4Address
    min_port: int
    max_port: int


@dataclass(frozen=True, slots=True)
class BalancerKey:
    """A load balancer by what it balances."""

    vni: Vni
    address: IPAddress


@dataclass(frozen=True, slots=True)
class FirewallKey:
    """A firewall rule by its id, which is unique within an interface."""

    interface_id: InterfaceId
    rule_id: RuleId


@dataclass(frozen=True, slots=True)
class CaptureKey:
    """The one capture of a host."""


@dataclass(frozen=True, slots=True)
class RouteKey:
    """A prefix in a VNI."""

    vni: Vni
    prefix: IPNetwork


@dataclass(frozen=True, slots=True)
class FunctionKey:
    """An underlay address of this host."""

    underlay: UnderlayAddress


@dataclass(frozen=True, slots=True)
class PortKey:
    """A guest port by its number, which an interface keeps for life."""

    number: PortNumber


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public address in a VNI."""

    vni: Vni
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class BalancerNumberKey:
    """A balancer by its number, which it keeps for life."""

    number: BalancerNumber


@dataclass(frozen=True, slots=True)
class RulesKey:
    """A port's firewall in a direction."""

    port: PortNumber
    direction: Direction


@dataclass(frozen=True, slots=True)
class SourceKey:
    """A balancer prefix that a port's guest may send from."""

    port: PortNumber
    prefix: IPNetwork


Key: TypeAlias = (
    InterfaceKey
    | VipKey
    | NatKey
    | NeighborKey
    | BalancerKey
    | FirewallKey
    | CaptureKey
    | RouteKey
    | FunctionKey
    | PortKey
    | PublicKey
    | BalancerNumberKey
    | RulesKey
    | SourceKey
)
Row: TypeAlias = (
    Interface
    | Vip
    | NatSlice
    | Neighbor
    | Balancer
    | FirewallRule
    | Capture
    | Hop
    | Function
    | Port
    | Public
    | PacketBalancer
    | Rules
    | AllowedSource
)
Rows: TypeAlias = dict[Key, Row]


@dataclass(frozen=True, slots=True)
class Change:
    """A row that appears (`before` is None), goes (`after` is None) or changes."""

    key: Key
    before: Row | None
    after: Row | None


@dataclass(frozen=True, slots=True)
class RouteChanges:
    """Routes of one family of a VNI, one or a million, at once: those in `before` alone go, all in `after` are put.

    Routes are numbered (see `route_number`), which takes a tenth of the memory and time of networks.
    """

    vni: Vni
    version: int
    before: dict[int, Hop]
    after: dict[int, Hop]


AnyChange: TypeAlias = Change | RouteChanges
RouteTables: TypeAlias = dict[tuple[Vni, int], dict[int, Hop]]
"""Routes by VNI and IP version, then by number."""


class RoutePrefix(NamedTuple):
    """A prefix by IP version and number (see `route_number`): what a single route is changed by."""

    version: int
    number: int


def numbered(prefix: IPNetwork) -> RoutePrefix:
    """A prefix as routes are changed by."""
    return RoutePrefix(prefix.version, route_number(prefix))


def route_number(prefix: IPNetwork) -> int:
    """A prefix as a number: the address, then the length in the lowest byte. Sorts as prefixes do."""
    return int(prefix.network_address) << 8 | prefix.prefixlen


def route_prefix(number: int, version: int) -> IPNetwork:
    """The prefix of that number."""
    parts = number >> 8, number & 0xFF
    return IPv4Network(parts) if version == 4 else IPv6Network(parts)


def one_by_one(changes: Iterable[AnyChange]) -> Iterator[Change]:
    """The same with a change for each route."""
    for change in changes:
        if isinstance(change, Change):
            yield change
            continue
        for number in {**change.before, **change.after}:
            key = RouteKey(change.vni, route_prefix(number, change.version))
            yield Change(key, change.before.get(number), change.after.get(number))


def as_routes(key: RouteKey, change: Change) -> RouteChanges:
    """The same change of a route."""
    number = route_number(key.prefix)
    before, after = _as_hops(number, change.before), _as_hops(number, change.after)
    return RouteChanges(key.vni, key.prefix.version, before, after)


def _as_hops(number: int, row: Row | None) -> dict[int, Hop]:
    return {number: row} if isinstance(row, LocalHop | RemoteHop) else {}


def inverted(changes: Sequence[AnyChange]) -> list[AnyChange]:
    """What takes `changes` back, last first."""
    return [_inverse(change) for change in reversed(changes)]


def _inverse(change: AnyChange) -> AnyChange:
    if isinstance(change, RouteChanges):
        return RouteChanges(change.vni, change.version, before=change.after, after=change.before)
    return Change(change.key, before=change.after, after=change.before)


def difference(found: Rows, wanted: Rows) -> list[AnyChange]:
    """What makes `wanted` of `found`: what goes before what comes, ports after what refers to them and vice versa."""
    gone = [Change(key, row, None) for key, row in found.items() if key not in wanted]
    fresh = [Change(key, found.get(key), row) for key, row in wanted.items() if found.get(key) != row]
    return [*sorted(gone, key=_ports_last), *sorted(fresh, key=_ports_last, reverse=True)]


def _ports_last(change: Change) -> bool:
    return isinstance(change.key, PortKey)


def route_difference(found: RouteTables, wanted: RouteTables) -> list[AnyChange]:
    """The same for routes. A million of them share few hops, so that each pair of hops is compared once."""
    changes: list[AnyChange] = []
    unlike: dict[tuple[int, int], bool] = {}
    for vni, version in found.keys() | wanted.keys():
        old, new = found.get((vni, version), {}), wanted.get((vni, version), {})
        before = {number: hop for number, hop in old.items() if number not in new}
        after = {}
        for number, hop in new.items():
            other = old.get(number)
            pair = id(other), id(hop)
            if pair not in unlike:
                unlike[pair] = other != hop
            if unlike[pair]:
                after[number] = hop
                if other is not None:
                    before[number] = other
        if before or after:
            changes.append(RouteChanges(vni, version, before, after))
    return changes


def apply_to(rows: Rows, changes: Iterable[AnyChange]) -> None:
    """Puts changes into a plain table of rows."""
    for change in one_by_one(changes):
        if change.after is None:
            rows.pop(change.key, None)
        else:
            rows[change.key] = change.after
