"""What the gateway tells guests without being asked: gratuitous ARP, neighbor and router advertisements.

A guest whose MAC is not known is asked for it: the target of the ARP request is then its own address.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from services.dpservice.guest.dhcp import GATEWAY
from services.dpservice.guest.dhcp6 import GATEWAY6

ALL_NODES: Final = IPv6Address("ff02::1")
ALL_NODES_MAC: Final = bytes.fromhex("333300000001")
BROADCAST: Final = b"\xff" * 6
ROUTER_ADVERTISEMENT, NEIGHBOR_ADVERTISEMENT = 134, 136
NA_ROUTER_OVERRIDE: Final = 0xA0000000  # RFC 4861 4.4
RA_MANAGED_OTHER: Final = 0xC0  # RFC 4861 4.2
RA_LIFETIME: Final = 65535  # seconds
ND_HOP_LIMIT: Final = 255
SOURCE_MAC_OPTION: Final = b"\x01\x01"  # type, length in units of 8 bytes


def arp_announcement(mac: bytes, guest: IPv4Address, *, known: bool) -> bytes:
    """An ARP request from the gateway, whose MAC is `mac`."""
    target = GATEWAY if known else guest
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + GATEWAY.packed + bytes(6) + target.packed
    return BROADCAST + mac + b"\x08\x06" + body


def neighbor_announcement(mac: bytes) -> bytes:
    """An unsolicited advertisement of the gateway's address."""
    return _nd(mac, struct.pack("!BBHI", NEIGHBOR_ADVERTISEMENT, 0, 0, NA_ROUTER_OVERRIDE) + GATEWAY6.packed)


def router_announcement(mac: bytes) -> bytes:
    """An unsolicited router advertisement: addresses come by DHCPv6, the default route from here."""
    head = struct.pack("!BBHBBHII", ROUTER_ADVERTISEMENT, 0, 0, ND_HOP_LIMIT, RA_MANAGED_OTHER, RA_LIFETIME, 0, 0)
    return _nd(mac, head + SOURCE_MAC_OPTION + mac)


def _nd(mac: bytes, message: bytes) -> bytes:
    pseudo = GATEWAY6.packed + ALL_NODES.packed + struct.pack("!II", len(message), 58)
    total = sum(struct.unpack(f"!{(len(pseudo) + len(message)) // 2}H", pseudo + message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    summed = message[:2] + struct.pack("!H", ~total & 0xFFFF) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), 58, ND_HOP_LIMIT) + GATEWAY6.packed + ALL_NODES.packed
    return ALL_NODES_MAC + mac + b"\x86\xdd" + header + summed
