"""Which flows have to go with a change: selectors that an engine carries out once packets follow the change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias

from services.dpservice.model.changes import AnyChange, Change
from services.dpservice.model.keys import BalancerKey, NatKey, NeighborKey, VipKey
from services.dpservice.model.rows import Balancer, Interface, IPAddress, PortNumber, Vni
from services.dpservice.model.tables import Tables
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
    address: IPAddress


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


@dataclass(frozen=True, slots=True)
class Untranslated:
    """Flows that a guest began towards public destinations while it had no public address for them."""

    port: PortNumber
    address: IPv4Address | None
    nat64: bool


Selector: TypeAlias = OfPort | VipOfPort | NatOfPort | Untranslated | OriginalDestination | NeighborRange | Target


def flushes(changes: Sequence[AnyChange], tables: Tables) -> list[Selector]:
    """What has to be forgotten after the changes, which the tables have already.

    More than the original forgets: also the flows of a deleted balancer, which a new one of the same address would
    else send to targets that are none of its own; and those that a VIP or NAT would have translated if it had been
    there, for they would go on with a private source for as long as the guest tries.
    """
    return [selector for change in changes if isinstance(change, Change) for selector in _of_change(change, tables)]


def _of_change(change: Change, tables: Tables) -> Iterator[Selector]:
    match change.key, change.before, change.after:
        case _, Interface() as interface, None:
            yield OfPort(interface.port)
            if interface.ipv4 is not None:
                yield OriginalDestination(interface.vni, interface.ipv4)
        case (VipKey() | NatKey()) as key, _, None:
            owner = tables.interfaces.get(key.interface_id)
            if owner is not None:  # else it is the port that goes
                yield VipOfPort(owner.port) if isinstance(key, VipKey) else NatOfPort(owner.port)
        case (VipKey() | NatKey()) as key, None, _:
            owner = tables.interfaces[key.interface_id]
            yield Untranslated(owner.port, owner.ipv4, isinstance(key, NatKey))
        case NeighborKey() as key, _, None:
            yield NeighborRange(key.vni, key.address, key.min_port, key.max_port)
        case BalancerKey() as key, _, None:
            yield OriginalDestination(key.vni, key.address)
        case _, Balancer() as old, Balancer() as new:
            for target in sorted(set(old.targets) - set(new.targets)):
                yield Target(UnderlayAddress(target))
