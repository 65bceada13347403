"""Virtual services: what guests reach as an IPv4 address and port is an IPv6 service of the underlay."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

SERVICE_LIMIT: Final = 256
FUNCTIONS: Final = 0xD0  # ninth byte of underlay addresses that are functions
SERVICES: Final = 0xFF  # tenth byte of those that are virtual services
SECONDARY_POOL: Final = 0x40  # eleventh byte: not from the allocator


@dataclass(frozen=True)
class VirtualService:
    """An IPv4 endpoint that guests see, and the IPv6 service that answers for it."""

    protocol: Literal["udp", "tcp"]
    address: IPv4Address
    port: int
    service: IPv6Address
    service_port: int

    def __str__(self) -> str:
        """As the original names it: TCP:169.254.1.1:80."""
        return f"{self.protocol.upper()}:{self.address}:{self.port}"


def service_underlay(prefix: bytes, index: int) -> IPv6Address:
    """The underlay address that requests to a service come from; `prefix`: the host's, 8 bytes.

    The index is in the byte order of the original's hosts: little-endian.
    """
    return IPv6Address(prefix + bytes((FUNCTIONS, SERVICES, SECONDARY_POOL, 0)) + index.to_bytes(4, "little"))
