"""Frames out of capture files: pcap of both byte orders and resolutions, and pcapng. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

MAGICS: Final = (0xA1B2C3D4, 0xA1B23C4D)
ETHERNET: Final = 1
SECTION, INTERFACE, SIMPLE, ENHANCED = 0x0A0D0D0A, 1, 3, 6
BYTE_ORDER: Final = 0x1A2B3C4D


class BadCapture(Exception):
    """The text says what is wrong with a file."""


def frames(content: bytes) -> Iterator[bytes]:
    """The frames of a capture on Ethernet. Raises BadCapture."""
    if len(content) < 4:
        raise BadCapture("too short for a capture")
    if int.from_bytes(content[:4], "little") == SECTION:
        yield from _of_blocks(content)
        return
    for order in "<>":
        if struct.unpack(f"{order}I", content[:4])[0] in MAGICS:
            yield from _of_records(content, order)
            return
    raise BadCapture("neither pcap nor pcapng")


def _of_records(content: bytes, order: str) -> Iterator[bytes]:
    if len(content) < 24:
        raise BadCapture("the header is cut short")
    _check(struct.unpack_from(f"{order}I", content, 20)[0] & 0xFFFF)
    at = 24
    while at < len(content):
        if at + 16 > len(content):
            raise BadCapture(f"a record is cut short at byte {at}")
        kept = struct.unpack_from(f"{order}I", content, at + 8)[0]
        if at + 16 + kept > len(content):
            raise BadCapture(f"a record is cut short at byte {at}")
        yield content[at + 16 : at + 16 + kept]
        at += 16 + kept


def _of_blocks(content: bytes) -> Iterator[bytes]:
    at, order = 0, "<"
    while at < len(content):
        if at + 12 > len(content):
            raise BadCapture(f"a block is cut short at byte {at}")
        kind = struct.unpack_from(f"{order}I", content, at)[0]
        if kind == SECTION:
            order = "<" if struct.unpack_from("<I", content, at + 8)[0] == BYTE_ORDER else ">"
        size = struct.unpack_from(f"{order}I", content, at + 4)[0]
        if size < 12 or size % 4 or at + size > len(content):
            raise BadCapture(f"a block is cut short at byte {at}")
        body = content[at + 8 : at + size - 4]
        if kind == INTERFACE:
            _check(struct.unpack_from(f"{order}H", body)[0])
        elif kind == ENHANCED and len(body) >= 20:
            kept = struct.unpack_from(f"{order}I", body, 12)[0]
            yield body[20 : 20 + kept]
        elif kind == SIMPLE and len(body) >= 4:
            yield body[4 : 4 + struct.unpack_from(f"{order}I", body)[0]]
        at += size


def _check(link: int) -> None:
    if link != ETHERNET:
        raise BadCapture(f"link type {link} is not Ethernet")
