"""The words that the agent reasons in: numbers and addresses of overlay networks, and interfaces in the data plane."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NewType

Vni = NewType("Vni", int)
InterfaceId = NewType("InterfaceId", str)
"""Names an interface to the data plane: the uid of its NetworkInterface."""

UnderlayAddress = NewType("UnderlayAddress", IPv6Address)
IPAddress = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Rates:
    """Limits on what a machine sends, in Mbit/s; 0 = none."""

    total: int = 0
    public: int = 0


@dataclass(frozen=True)
class Wanted:
    """What one NetworkInterface wants of the data plane; `peers` are the networks that its own has peerings with."""

    id: InterfaceId
    vni: Vni
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    hostname: str = ""
    rates: Rates = Rates()
    prefixes: tuple[Prefix, ...] = ()
    peers: tuple[Vni, ...] = ()

    @property
    def hosts(self) -> tuple[Prefix, ...]:
        """The addresses as prefixes of one address."""
        return tuple(host_prefix(address) for address in (self.ipv4, self.ipv6) if address is not None)


@dataclass(frozen=True)
class Port:
    """An interface as the data plane has it; `device` is the data plane's name of the device."""

    id: InterfaceId
    vni: Vni
    device: str
    underlay: UnderlayAddress
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    hostname: str = ""
    rates: Rates = Rates()

    def serves(self, wanted: Wanted, device: str) -> bool:
        """Whether it is as wanted. A data plane that reports no rates at all does not limit them: no difference."""
        have = (self.vni, self.device, self.ipv4, self.ipv6, self.hostname)
        same = have == (wanted.vni, device, wanted.ipv4, wanted.ipv6, wanted.hostname)
        return same and self.rates in (wanted.rates, Rates())


def host_prefix(address: IPAddress) -> Prefix:
    """The prefix of one address."""
    return ip_network(address)
