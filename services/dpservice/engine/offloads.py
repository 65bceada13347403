"""Offloads of network devices, by the ethtool ioctl (linux/ethtool.h)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from typing import Final

SIOCETHTOOL: Final = 0x8946
ETHTOOL_GTSO: Final = 0x1E
ETHTOOL_SGRO: Final = 0x2C


def enable_gro(ifname: str) -> None:
    """Makes the kernel merge received segments of a device; some drivers (veth) have it off. Raises OSError."""
    _ethtool(ifname, ETHTOOL_SGRO, 1)


def sends_whole(ifname: str) -> bool:
    """Does a device take GSO packets as they are (TSO)? Raises OSError."""
    return bool(_ethtool(ifname, ETHTOOL_GTSO, 0))


def _ethtool(ifname: str, operation: int, value: int) -> int:
    command = array.array("B", struct.pack("=II", operation, value))
    request = struct.pack("16sP16x", ifname.encode(), command.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)
    return int(struct.unpack("=II", command.tobytes())[1])
