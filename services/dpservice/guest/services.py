"""What all guests of a host are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

DNS_LIMIT: Final = 63
DNS6_LIMIT: Final = 15
MTU_MIN, MTU_MAX = 68, 1500


@dataclass(frozen=True)
class GuestServices:
    """MTU in bytes. `service_route`: guests are told that virtual services (169.254.1.0/24) are behind the gateway."""

    mtu: int = MTU_MAX
    dns: Sequence[IPv4Address] = ()
    dns6: Sequence[IPv6Address] = ()
    service_route: bool = False

    def __post_init__(self) -> None:
        if not MTU_MIN <= self.mtu <= MTU_MAX:
            raise ValueError(f"dhcp-mtu: {self.mtu} is not within {MTU_MIN}-{MTU_MAX}")
        if len(self.dns) > DNS_LIMIT:
            raise ValueError(f"dhcp-dns: more than {DNS_LIMIT} servers")
        if len(self.dns6) > DNS6_LIMIT:
            raise ValueError(f"dhcpv6-dns: more than {DNS6_LIMIT} servers")
