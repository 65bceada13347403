"""The DHCPv6 reply of an interface (RFC 8415): three pieces in one frame that `bpf/dhcp6.h` puts together and sends.

Head (Ethernet to server id), IA_NA, tail (DNS, boot URL). The program fills in both MACs, the client's address,
lengths, checksum, message type, transaction id and the server's DUID, which holds the client's own MAC: so it stays the
same when the guest moves to another host. Between the pieces go the client's id and its rapid commit, IA_NA only if
asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Final

GATEWAY6: Final = IPv6Address("fe80::1")
SERVER_PORT: Final = 547
CLIENT_PORT: Final = 546
HOP_LIMIT: Final = 64
INFINITE: Final = 0xFFFFFFFF
DUID_LL: Final = 3
HARDWARE_TYPE: Final = 0xABCD  # of no meaning: the original's
SERVER_ID, IA_NA, IA_ADDRESS, STATUS, DNS_SERVERS, BOOT_URL = 2, 3, 5, 13, 23, 59
SUCCESS, NO_ADDRESSES = 0, 2


def reply_frame(address: IPv6Address, dns: Sequence[IPv6Address], boot_url: str = "") -> bytes:
    """For a guest with this address. DNS servers are told even when there are none, as the original does."""
    server_id = option(SERVER_ID, struct.pack("!HH6x", DUID_LL, HARDWARE_TYPE))
    tail = option(DNS_SERVERS, b"".join(server.packed for server in dns))
    if boot_url:
        tail += option(BOOT_URL, boot_url.encode("ascii"))
    return _head() + server_id + _ia_na(address) + tail


def refusal_frame() -> bytes:
    """For a guest without an IPv6 address: it need not go on asking."""
    return _head() + option(STATUS, struct.pack("!H", NO_ADDRESSES))


def option(code: int, value: bytes) -> bytes:
    """An option in its envelope (RFC 8415 21.1)."""
    return struct.pack("!HH", code, len(value)) + value


def _head() -> bytes:
    ethernet = bytes(12) + b"\x86\xdd"
    ip = struct.pack("!IHBB", 6 << 28, 0, 17, HOP_LIMIT) + GATEWAY6.packed + bytes(16)
    return ethernet + ip + struct.pack("!HHHH", SERVER_PORT, CLIENT_PORT, 0, 0) + bytes(4)


def _ia_na(address: IPv6Address) -> bytes:
    status = option(STATUS, struct.pack("!H", SUCCESS))
    lease = option(IA_ADDRESS, address.packed + struct.pack("!II", INFINITE, INFINITE) + status)
    return option(IA_NA, struct.pack("!III", 0, INFINITE, INFINITE) + lease)
