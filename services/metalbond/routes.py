"""What a route says, as values for people and programs; `wire` knows how it looks in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NewType

Vni = NewType("Vni", int)

MAX_VNI: Final = 2**24 - 1  # a VNI has 24 bits (RFC 7348 section 5), though the wire's varint would hold 32
MAX_PORT: Final = 2**16 - 1

Destination = IPv4Network | IPv6Network
UnderlayAddress = IPv6Address | IPv4Address


class NextHopType(IntEnum):
    """What a receiver does with the next hop; the reflector treats all alike."""

    STANDARD = 0
    NAT = 1
    LOADBALANCER_TARGET = 2


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where packets for a destination go.

    `type` may be a number beyond `NextHopType` when a newer peer announced it. `nat_ports` (first and last as
    announced) belong to NAT alone. Raises ValueError, naming the field and the rule, for anything else.
    """

    address: UnderlayAddress
    type: int = NextHopType.STANDARD
    nat_ports: tuple[int, int] | None = None
    target_vni: Vni = Vni(0)

    def __post_init__(self) -> None:
        if (self.nat_ports is not None) != (self.type == NextHopType.NAT):
            raise ValueError("nat_ports: required for a NAT next hop, and for no other type")
        if self.nat_ports is not None and not all(0 <= port <= MAX_PORT for port in self.nat_ports):
            raise ValueError(f"nat_ports: {self.nat_ports} is outside of 0..{MAX_PORT}")
        if not 0 <= self.target_vni <= MAX_VNI:
            raise ValueError(f"target_vni: {self.target_vni} is outside of 0..{MAX_VNI}")
        if not 0 <= self.type < 2**31:
            raise ValueError(f"type: {self.type} is not a next hop type")

    def __str__(self) -> str:
        ports = "" if self.nat_ports is None else " ports {}-{}".format(*self.nat_ports)
        kind = NextHopType(self.type).name if self.type in tuple(NextHopType) else f"type {self.type}"
        vni = f" in VNI {self.target_vni}" if self.target_vni else ""
        return f"{self.address}{vni}{'' if self.type == NextHopType.STANDARD else ' ' + kind}{ports}"


@dataclass(frozen=True, slots=True)
class Route:
    """One next hop of one destination in one virtual network. Raises ValueError for a VNI beyond 24 bits."""

    vni: Vni
    destination: Destination
    next_hop: NextHop

    def __post_init__(self) -> None:
        check_vni(self.vni)

    def __str__(self) -> str:
        return f"VNI {self.vni}: {self.destination} via {self.next_hop}"


def check_vni(vni: int) -> Vni:
    """The number as a VNI. Raises ValueError outside of 0..2^24-1."""
    if not 0 <= vni <= MAX_VNI:
        raise ValueError(f"vni: {vni} is outside of 0..{MAX_VNI}")
    return Vni(vni)
