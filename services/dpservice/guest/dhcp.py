"""The DHCPv4 reply of an interface (RFC 2131, 2132, 3442): a finished frame that `bpf/dhcp.h` patches and sends.

The program fills in both MACs, the transaction id, flags, chaddr, the message type and the UDP checksum. A guest lives
in a /32 whose default route goes through 169.254.0.1: two classless routes (option 121) say so.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

GATEWAY: Final = IPv4Address("169.254.0.1")
SERVER_PORT: Final = 67
CLIENT_PORT: Final = 68
TTL: Final = 64
BOOT_REPLY: Final = 2
ETHERNET: Final = 1
MAGIC: Final = bytes((99, 130, 83, 99))
FOREVER: Final = b"\xff\xff\xff\xff"
OFFER: Final = 2
DNS_LIMIT: Final = 63
MTU_MIN, MTU_MAX = 68, 1500

# 169.254.0.0/16 on the link, everything else through the gateway (RFC 3442: width, significant octets, router).
CLASSLESS_ROUTES: Final = bytes((16, 169, 254, 0, 0, 0, 0)) + bytes((0,)) + GATEWAY.packed


@dataclass(frozen=True)
class GuestServices:
    """What all guests of a host are told. MTU in bytes."""

    mtu: int = MTU_MAX
    dns: Sequence[IPv4Address] = ()

    def __post_init__(self) -> None:
        if not MTU_MIN <= self.mtu <= MTU_MAX:
            raise ValueError(f"dhcp-mtu: {self.mtu} is not within {MTU_MIN}-{MTU_MAX}")
        if len(self.dns) > DNS_LIMIT:
            raise ValueError(f"dhcp-dns: more than {DNS_LIMIT} servers")


def reply_frame(address: IPv4Address, hostname: str, services: GuestServices) -> bytes:
    """The frame for a guest with this address, from its Ethernet header on."""
    message = (
        struct.pack("!BBBBIHH", BOOT_REPLY, ETHERNET, 6, 0, 0, 0, 0)
        + bytes(4)  # ciaddr
        + address.packed
        + GATEWAY.packed  # siaddr
        + GATEWAY.packed  # giaddr
        + bytes(16 + 64 + 128)  # chaddr, sname, file
        + MAGIC
        + _options(hostname, services)
    )
    udp = struct.pack("!HHHH", SERVER_PORT, CLIENT_PORT, 8 + len(message), 0) + message
    return bytes(12) + b"\x08\x00" + _ipv4_header(address, len(udp)) + udp


def _options(hostname: str, services: GuestServices) -> bytes:
    """In the order that the original sends them; the program relies on the message type being first."""
    options = [
        (53, bytes((OFFER,))),
        (51, FOREVER),
        (54, GATEWAY.packed),
        (121, CLASSLESS_ROUTES),
        (1, b"\xff\xff\xff\xff"),
        (26, struct.pack("!H", services.mtu)),
    ]
    if services.dns:
        options.append((6, b"".join(server.packed for server in services.dns)))
    if hostname:
        options.append((12, hostname.encode("ascii")))
    return b"".join(bytes((code, len(value))) + value for code, value in options) + b"\xff"


def _ipv4_header(destination: IPv4Address, payload: int) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + payload, 0, 0, TTL, 17, 0) + GATEWAY.packed + destination.packed
    total = sum(struct.unpack("!10H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
