"""Offloads of network devices, by the ethtool ioctl (linux/ethtool.h)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from typing import Final

SIOCETHTOOL: Final = 0x8946
ETHTOOL_SGRO: Final = 0x2C


def enable_gro(ifname: str) -> None:
    """Makes the kernel merge received segments of a device; some drivers (veth) have it off. Raises OSError."""
    command = array.array("B", struct.pack("=II", ETHTOOL_SGRO, 1))
    request = struct.pack("16sP16x", ifname.encode(), command.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)
