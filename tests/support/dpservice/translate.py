"""NAT64: an IPv6 packet as the IPv4 world sees it, and back (RFC 7915 without its ICMP errors)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

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

PREFIX: Final = IPv6Address("64:ff9b::").packed[:12]
TYPES: Final = {(ICMPV6, 128): 8, (ICMPV6, 129): 0, (ICMP, 8): 128, (ICMP, 0): 129}


def embedded(address: IPv6Address) -> IPv4Address:
    """The IPv4 host behind a translated address."""
    return IPv4Address(address.packed[12:])


def embedding(address: IPv4Address) -> IPv6Address:
    """How an IPv4 host appears to IPv6 guests."""
    return IPv6Address(PREFIX + address.packed)


def to_ipv4(packet: Packet, ends: Endpoints) -> Packet:
    """Type of service from the traffic class, no identification, fragments allowed, the hop limit kept."""
    protocol, body = _body(packet, ends)
    traffic_class = int.from_bytes(packet.data[:2], "big") >> 4 & 0xFF
    head = struct.pack("!BBHHHBBH", 0x45, traffic_class, 20 + len(body), 0, 0, packet.data[7], protocol, 0)
    head += ends.source.packed + ends.destination.packed
    return read_packet(head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + body)


def to_ipv6(packet: Packet, ends: Endpoints) -> Packet:
    """Traffic class from the type of service, the hop limit kept."""
    protocol, body = _body(packet, ends)
    head = struct.pack("!IHBB", 6 << 28 | packet.data[1] << 20, len(body), protocol, packet.data[8])
    return read_packet(head + ends.source.packed + ends.destination.packed + body)


def _body(packet: Packet, ends: Endpoints) -> tuple[int, bytes]:
    body = bytearray(packet.body)
    if packet.protocol in (TCP, UDP):
        protocol = packet.protocol
        body[:4] = struct.pack("!HH", ends.source_port, ends.destination_port)
    else:
        protocol = ICMP if packet.protocol == ICMPV6 else ICMPV6
        body[0] = TYPES[packet.icmp]
        body[4:6] = struct.pack("!H", ends.source_port)
    at = CHECKSUM_AT[protocol]
    body[at : at + 2] = b"\0\0"
    covered = bytes(body)
    if protocol != ICMP:
        covered = pseudo_header(ends.source, ends.destination, protocol, len(body)) + covered
    value = checksum(covered)
    body[at : at + 2] = (0xFFFF if protocol == UDP and not value else value).to_bytes(2, "big")
    return protocol, bytes(body)
