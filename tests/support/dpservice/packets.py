"""Packets to send: short builders that put in lengths and checksums."""

from __future__ import annotations

import struct
from itertools import pairwise

from services.dpservice.model.rows import IPAddress
from tests.support.dpservice.wire import (
    CHECKSUM_AT,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Endpoints,
    Packet,
    checksum,
    pseudo_header,
    read_packet,
)

SYN, ACK, FIN, RST = 2, 16, 1, 4
TTL = 61  # no default of anyone


def ip(source: IPAddress, destination: IPAddress, protocol: int, body: bytes, *, options: bytes = b"") -> bytes:
    """An IP packet around a finished layer 4; `options` only for IPv4, a multiple of four bytes."""
    if source.version == 6:
        head = struct.pack("!IHBB", 6 << 28 | 0x12 << 20, len(body), protocol, TTL)
        return head + source.packed + destination.packed + body
    size = 20 + len(options)
    head = struct.pack("!BBHHHBBH", 0x40 | size // 4, 0x28, size + len(body), 0x1234, 0, TTL, protocol, 0)
    head += source.packed + destination.packed + options
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + body


def transport(ends: Endpoints, protocol: int, body: bytes) -> bytes:
    """Layer 4 with its checksum, which is zero in `body`."""
    at = CHECKSUM_AT[protocol]
    covered = body
    if protocol != ICMP:
        covered = pseudo_header(ends.source, ends.destination, protocol, len(body)) + body
    value = checksum(covered)
    if protocol == UDP and not value:
        value = 0xFFFF
    return body[:at] + value.to_bytes(2, "big") + body[at + 2 :]


def udp(ends: Endpoints, payload: bytes = b"payload") -> bytes:
    body = struct.pack("!HHHH", ends.source_port, ends.destination_port, 8 + len(payload), 0) + payload
    return ip(ends.source, ends.destination, UDP, transport(ends, UDP, body))


def tcp(ends: Endpoints, flags: int = SYN, payload: bytes = b"") -> bytes:
    body = struct.pack("!HHIIBBHHH", ends.source_port, ends.destination_port, 7, 9, 0x50, flags, 4096, 0, 0)
    return ip(ends.source, ends.destination, TCP, transport(ends, TCP, body + payload))


def echo(ends: Endpoints, *, answer: bool = False, payload: bytes = b"pinging!") -> bytes:
    """An echo request or reply; the identifier is the source port."""
    if ends.source.version == 4:
        protocol, kind = ICMP, 0 if answer else 8
    else:
        protocol, kind = ICMPV6, 129 if answer else 128
    body = struct.pack("!BBHHH", kind, 0, 0, ends.source_port, 1) + payload
    return ip(ends.source, ends.destination, protocol, transport(ends, protocol, body))


def error(source: IPAddress, destination: IPAddress, about: Packet, kind: int = 3, code: int = 4) -> bytes:
    """An ICMP or ICMPv6 error that quotes the first bytes of a packet."""
    protocol = ICMP if source.version == 4 else ICMPV6
    size = about.transport + 8 if source.version == 4 else len(about.data)
    body = struct.pack("!BBHHH", kind, code, 0, 0, 1400) + about.data[:size]
    return ip(source, destination, protocol, transport(Endpoints(source, 0, destination, 0), protocol, body))


def fragments(whole: bytes, number: int, size: int = 16) -> list[bytes]:
    """An IPv4 packet without options in pieces of `size` bytes of layer 4, a multiple of 8; the first has 8 more."""
    pieces, body = [], whole[20:]
    cuts = [0, *range(size + 8, len(body), size), len(body)]
    for start, end in pairwise(cuts):
        more = 0x2000 if end < len(body) else 0
        head = whole[:2] + struct.pack("!HHH", 20 + end - start, number, more | start >> 3) + whole[8:10] + bytes(2)
        head += whole[12:20]
        pieces.append(head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + body[start:end])
    return pieces


def packet(ends: Endpoints, protocol: int, *, flags: int = SYN, answer: bool = False) -> Packet:
    """A packet of a protocol between two endpoints."""
    if protocol == TCP:
        return read_packet(tcp(ends, flags))
    if protocol == UDP:
        return read_packet(udp(ends))
    return read_packet(echo(ends, answer=answer))
