"""The vocabulary: identities, enums, and the rows of the model, which the journal keeps.

Those of the packets are in `packet_rows.py`; neighbors, hops and functions are in both groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final, NewType, TypeAlias

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
