"""The pcap file format, with nanoseconds (draft-ietf-opsawg-pcap)."""

from __future__ import annotations

import struct
from typing import Final

MAGIC_NANOSECONDS: Final = 0xA1B23C4D
VERSION: Final = (2, 4)
ETHERNET: Final = 1
NANOSECONDS: Final = 1_000_000_000


def file_header(snap_length: int) -> bytes:
    """What a file begins with. `snap_length`: the most bytes that are kept of a packet."""
    return struct.pack("<IHHiIII", MAGIC_NANOSECONDS, *VERSION, 0, 0, snap_length, ETHERNET)


def packet(time: int, length: int, data: bytes) -> bytes:
    """A packet of `length` bytes whose beginning is `data`. `time`: ns since 1970."""
    return struct.pack("<IIII", *divmod(time, NANOSECONDS), len(data), length) + data
