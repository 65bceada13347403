"""The rows of the packets, which `view.py` derives and an engine gets and gives back."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from services.dpservice.guest.templates import Templates
from services.dpservice.model.rows import IPAddress, IPNetwork, NatSlice, PortNumber, Protocol, Vni
from services.dpservice.model.underlay import UnderlayAddress


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
