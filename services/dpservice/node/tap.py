"""TAP devices for guests: persistent, so that QEMU opens them by name and the programs on them stay when it ends.

QEMU (libvirt: <interface type='ethernet'> with <target dev=... managed='no'/>) opens one queue with a virtio header;
a device made with several queues would refuse it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from typing import Final

from services.common.logs import get_logger

log = get_logger(__name__)

TUNSETIFF: Final = 0x400454CA
TUNSETPERSIST: Final = 0x400454CB
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def create_missing_taps(names: Iterable[str]) -> None:
    """Makes those devices that are not there, whatever kind the others are. Raises OSError."""
    there = {name for _, name in socket.if_nameindex()}
    for name in names:
        if name not in there:
            create_tap(name)
            log.info("TAP made", ifname=name)


def create_tap(name: str) -> None:
    """Makes the device, without setting it up. Raises OSError: EBUSY when another program holds it."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(descriptor, TUNSETIFF, request)
        fcntl.ioctl(descriptor, TUNSETPERSIST, 1)
    finally:
        os.close(descriptor)
