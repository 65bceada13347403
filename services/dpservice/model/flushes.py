"""Which flows have to go with a change: selectors that an engine carries out once packets follow the change."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias

from services.dpservice.model.rows import PortNumber, Vni
from services.dpservice.model.underlay import UnderlayAddress


@dataclass(frozen=True, slots=True)
class OfPort:
    """Every flow that a guest port takes part in."""

    port: PortNumber


@dataclass(frozen=True, slots=True)
class VipOfPort:
    """Flows that a port's VIP has a part in."""

    port: PortNumber


@dataclass(frozen=True, slots=True)
class NatOfPort:
    """Flows that hold a port of a guest port's NAT slice."""

    port: PortNumber


@dataclass(frozen=True, slots=True)
class OriginalDestination:
    """Flows whose first packet went to an address of a VNI."""

    vni: Vni
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class NeighborRange:
    """Flows relayed to the owner of a foreign NAT slice; `max_port` is not included."""

    vni: Vni
    address: IPv4Address
    min_port: int
    max_port: int


@dataclass(frozen=True, slots=True)
class Target:
    """Flows forwarded to a balancer's target."""

    underlay: UnderlayAddress


Selector: TypeAlias = OfPort | VipOfPort | NatOfPort | OriginalDestination | NeighborRange | Target
