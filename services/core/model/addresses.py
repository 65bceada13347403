"""Addresses and ranges as they stand in objects: text, possibly invalid until the schema has looked at it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface
from typing import Final

IPNetwork = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address

IPV4: Final = "IPv4"
IPV6: Final = "IPv6"

FULL_LENGTH: Final = {IPV4: 32, IPV6: 128}
"""Bits of a single address."""


def network_of(text: str) -> IPNetwork | None:
    """The range that a CIDR stands for (host bits are ignored), or None for no CIDR."""
    try:
        return ip_interface(text).network if "/" in text else None
    except ValueError:
        return None


def address_of(text: str) -> IPAddress | None:
    """The address, or None for what is none."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def family_of(value: IPNetwork | IPAddress) -> str:
    """IPv4 or IPv6."""
    return IPV4 if value.version == 4 else IPV6


def family_of_text(text: str) -> str | None:
    """The family of an address or CIDR, or None for what is neither."""
    value = network_of(text) or address_of(text)
    return None if value is None else family_of(value)


def is_inside(inner: IPNetwork, outer: IPNetwork) -> bool:
    """Whether every address of `inner` is one of `outer`; ranges of two families have none in common."""
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network) and inner.subnet_of(outer)
