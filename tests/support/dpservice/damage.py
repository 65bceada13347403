"""Ways to spoil a packet: what a broken or hostile sender might put on the wire."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Final

from hypothesis import strategies as st

from tests.support.dpservice.wire import FRAGMENT6

HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS, AUTHENTICATION, NO_NEXT = 0, 43, 60, 51, 59
EXTENSIONS: Final = (HOP_BY_HOP, ROUTING, FRAGMENT6, DESTINATION_OPTIONS, AUTHENTICATION)
JUMBO: Final = bytes.fromhex("3a00c20400010000")  # RFC 2675: a jumbo payload option in a hop-by-hop header


@st.composite
def damaged(draw: st.DrawFn, packet: bytes) -> bytes:
    """A packet with up to three things wrong with it; it says what family it is of, so that it is read at all."""
    for _ in range(draw(st.integers(1, 3))):
        harm = draw(st.sampled_from(HARMS))
        packet = harm(draw, packet) or packet[:1]
    return packet


def _cut(draw: st.DrawFn, packet: bytes) -> bytes:
    return packet[: draw(st.integers(1, len(packet)))]


def _flip(draw: st.DrawFn, packet: bytes) -> bytes:
    at = draw(st.integers(0, len(packet) - 1))
    return packet[:at] + bytes([packet[at] ^ draw(st.integers(1, 255))]) + packet[at + 1 :]


def _length(draw: st.DrawFn, packet: bytes) -> bytes:
    at = 2 if packet[0] >> 4 == 4 else 4
    wrong = draw(st.sampled_from([0, 1, 19, 20, 21, 27, 39, 40, len(packet) - 1, len(packet) + 1, 1500, 9000, 0xFFFF]))
    return packet[:at] + struct.pack("!H", wrong & 0xFFFF) + packet[at + 2 :]


def _extended(draw: st.DrawFn, packet: bytes) -> bytes:
    """An IPv6 extension header, maybe one that lies about its length or carries a jumbo option."""
    if packet[0] >> 4 != 6 or len(packet) < 40:
        return packet
    kind = draw(st.sampled_from(EXTENSIONS))
    size = draw(st.sampled_from([0, 0, 0, 1, 255]))
    body = JUMBO if draw(st.booleans()) else bytes([packet[6], size]) + draw(st.binary(min_size=6, max_size=6))
    inner = len(packet) - 40 + len(body)
    return packet[:4] + struct.pack("!HB", inner & 0xFFFF, kind) + packet[7:40] + body + packet[40:]


def _fragment(draw: st.DrawFn, packet: bytes) -> bytes:
    """Any fragment, also tiny ones and such that overlap a header."""
    offset = draw(st.sampled_from([0, 1, 2, 3, 185, 0x1FFF]))
    more = draw(st.booleans())
    if packet[0] >> 4 == 4 and len(packet) >= 20:
        flags = offset | (0x2000 if more else 0) | (0x4000 if draw(st.booleans()) else 0)
        return packet[:6] + struct.pack("!H", flags) + packet[8:]
    if packet[0] >> 4 == 6 and len(packet) >= 40:
        body = struct.pack("!BBHI", packet[6], 0, offset << 3 | more, 7)
        inner = len(packet) - 40 + len(body)
        return packet[:4] + struct.pack("!HB", inner & 0xFFFF, FRAGMENT6) + packet[7:40] + body + packet[40:]
    return packet


def _options(draw: st.DrawFn, packet: bytes) -> bytes:
    """IPv4 options: any header length, with or without the room for it."""
    if packet[0] >> 4 != 4 or len(packet) < 20:
        return packet
    words = draw(st.integers(0, 15))
    room = bytes(max(0, words * 4 - 20)) if draw(st.booleans()) else b""
    total = len(packet) + len(room)
    return bytes([0x40 | words]) + packet[1:2] + struct.pack("!H", total & 0xFFFF) + packet[4:20] + room + packet[20:]


def _protocol(draw: st.DrawFn, packet: bytes) -> bytes:
    at = 9 if packet[0] >> 4 == 4 else 6
    return (
        packet[:at]
        + bytes([draw(st.sampled_from([0, 1, 2, 4, 6, 17, 41, 47, 50, 58, 59, 132, 255]))])
        + packet[at + 1 :]
    )


def _padded(draw: st.DrawFn, packet: bytes) -> bytes:
    return packet + draw(st.binary(min_size=1, max_size=1600))


def _noise(draw: st.DrawFn, packet: bytes) -> bytes:
    return packet[:1] + draw(st.binary(min_size=0, max_size=len(packet)))


def _wrapped(draw: st.DrawFn, packet: bytes) -> bytes:
    """A tunnel within what may be one already."""
    inner = 4 if packet[0] >> 4 == 4 else 41
    ends = [draw(st.sampled_from(UNDERLAY)).packed for _ in range(2)]
    return struct.pack("!IHBB", 6 << 28, len(packet) & 0xFFFF, inner, 64) + ends[0] + ends[1] + packet


UNDERLAY: Final = tuple(IPv6Address(text) for text in ("fc00:1::1", "fc00:2::d000:0:0:7", "fc00:1::d000:1:0:3"))
HARMS: Final = (_cut, _flip, _length, _extended, _fragment, _options, _protocol, _padded, _noise, _wrapped)
