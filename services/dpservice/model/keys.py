"""What rows are found by: the model's and the packets'."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias

from services.dpservice.model.rows import (
    BalancerNumber,
    Direction,
    InterfaceId,
    IPAddress,
    IPNetwork,
    PortNumber,
    RuleId,
    Vni,
)
from services.dpservice.model.underlay import UnderlayAddress


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
