"""The DHCPv4 reply of an interface (RFC 2131, 2132, 3442): a finished frame that `bpf/dhcp.h` patches and sends.

The program fills in both MACs (but that of a broadcast), the transaction id, flags, ciaddr, chaddr, the message type
and the UDP checksum. A guest lives in a /32 whose default route goes through 169.254.0.1: two classless routes (option
121) say so.
"""

from __future__ import annotations

import struct
from enum import Enum
from ipaddress import IPv4Address
from typing import Final

from services.dpservice.guest.boot import IPXE_PATH, Boot
from services.dpservice.guest.services import GuestServices

GATEWAY: Final = IPv4Address("169.254.0.1")
BROADCAST: Final = IPv4Address("255.255.255.255")
SERVER_PORT: Final = 67
CLIENT_PORT: Final = 68
TTL: Final = 64
BOOT_REPLY: Final = 2
ETHERNET: Final = 1
MAGIC: Final = bytes((99, 130, 83, 99))
FOREVER: Final = b"\xff\xff\xff\xff"
OFFER: Final = 2

# 169.254.0.0/16 on the link, everything else through the gateway (RFC 3442: width, significant octets, router).
CLASSLESS_ROUTES: Final = bytes((16, 169, 254, 0, 0, 0, 0)) + bytes((0,)) + GATEWAY.packed
SERVICE_ROUTE: Final = bytes((24, 169, 254, 1)) + GATEWAY.packed


class Stage(Enum):
    """Who asks: an operating system, a firmware that boots from the network, or iPXE."""

    SYSTEM = "system"
    FIRMWARE = "firmware"
    IPXE = "ipxe"


def reply_frame(
    address: IPv4Address,
    hostname: str,
    services: GuestServices,
    stage: Stage = Stage.SYSTEM,
    boot: Boot | None = None,
) -> bytes:
    """The frame for a guest with this address, from its Ethernet header on. `boot` is needed but for SYSTEM."""
    server, file = GATEWAY.packed, b""
    if stage is not Stage.SYSTEM:
        if boot is None:
            raise ValueError("nothing to boot from")
        server = boot.server.packed
        file = (IPXE_PATH if stage is Stage.FIRMWARE else boot.file4).encode("ascii")
    message = (
        struct.pack("!BBBBIHH", BOOT_REPLY, ETHERNET, 6, 0, 0, 0, 0)
        + bytes(4)  # ciaddr
        + address.packed
        + server  # siaddr
        + GATEWAY.packed  # giaddr
        + bytes(16 + 64)  # chaddr, sname
        + struct.pack("128s", file)
        + MAGIC
        + _options(hostname, services, with_router=stage is not Stage.SYSTEM)
    )
    udp = struct.pack("!HHHH", SERVER_PORT, CLIENT_PORT, 8 + len(message), 0) + message
    destination, mac = (address, bytes(6)) if stage is Stage.SYSTEM else (BROADCAST, b"\xff" * 6)
    return mac + bytes(6) + b"\x08\x00" + _ipv4_header(destination, len(udp)) + udp


def _options(hostname: str, services: GuestServices, *, with_router: bool) -> bytes:
    """In the order that the original sends them; the program relies on the message type being first."""
    options = [
        (53, bytes((OFFER,))),
        (51, FOREVER),
        (54, GATEWAY.packed),
        (121, CLASSLESS_ROUTES + (SERVICE_ROUTE if services.service_route else b"")),
        (1, b"\xff\xff\xff\xff"),
        (26, struct.pack("!H", services.mtu)),
    ]
    if with_router:
        options.append((3, GATEWAY.packed))
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
