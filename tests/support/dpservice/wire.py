"""Packets as bytes: reading them, and rewriting them with every checksum right."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from services.dpservice.model.rows import IPAddress

ICMP, TCP, UDP, ICMPV6, FRAGMENT6 = 1, 6, 17, 58, 44
ECHO_REQUESTS: Final = {(ICMP, 8), (ICMPV6, 128)}
ECHO_REPLIES: Final = {(ICMP, 0), (ICMPV6, 129)}
ERRORS: Final = {(ICMP, kind) for kind in (3, 4, 11, 12)} | {(ICMPV6, kind) for kind in (1, 2, 3, 4)}
CHECKSUM_AT: Final = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}
LEAST: Final = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}
ERROR_HEADER: Final = 8


class Malformed(Exception):
    """No program should forward this; the text says why."""


def summed(data: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    """The Internet checksum of data that has zero in its place."""
    return ~summed(data) & 0xFFFF


def pseudo_header(source: IPAddress, destination: IPAddress, protocol: int, length: int) -> bytes:
    """What TCP, UDP and ICMPv6 sum beside themselves."""
    addresses = source.packed + destination.packed
    if source.version == 4:
        return addresses + struct.pack("!BBH", 0, protocol, length)
    return addresses + struct.pack("!II", length, protocol)


@dataclass(frozen=True)
class Endpoints:
    """Addresses and ports; for ICMP both ports are the echo identifier."""

    source: IPAddress
    source_port: int
    destination: IPAddress
    destination_port: int

    def turned(self) -> Endpoints:
        return Endpoints(self.destination, self.destination_port, self.source, self.source_port)


@dataclass(frozen=True)
class Packet:
    """An IP packet, read as far as a layer 4 header. `quoted`: what lies behind the header of an ICMP error."""

    data: bytes
    ends: Endpoints
    protocol: int
    transport: int  # offset of the layer 4 header
    fragment: int = 0  # offset in the datagram, in bytes
    more: bool = False

    @property
    def version(self) -> int:
        return self.data[0] >> 4

    @property
    def body(self) -> bytes:
        return self.data[self.transport :]

    @property
    def icmp(self) -> tuple[int, int]:
        """Protocol and type, or zeros for what is no ICMP."""
        return (self.protocol, self.body[0]) if self.protocol in (ICMP, ICMPV6) and not self.fragment else (0, 0)

    @property
    def is_error(self) -> bool:
        return self.icmp in ERRORS

    @property
    def quoted(self) -> Packet:
        """What an ICMP error complains about. Raises Malformed."""
        return read_packet(self.body[ERROR_HEADER:], whole=False)


def read_packet(data: bytes, *, whole: bool = True) -> Packet:
    """Reads an IP packet; unless it is `whole`, eight bytes of layer 4 are enough. Raises Malformed."""
    version = data[0] >> 4 if data else 0
    if version == 4:
        packet = _read_ipv4(data, whole)
    elif version == 6:
        packet = _read_ipv6(data, whole)
    else:
        raise Malformed("no IP")
    if packet.fragment:
        return packet
    least = LEAST.get(packet.protocol)
    if least is None:
        raise Malformed("protocol")
    if len(packet.body) < (least if whole else 8):
        raise Malformed("layer 4 is cut")
    return replace(packet, ends=_with_ports(packet))


def _read_ipv4(data: bytes, whole: bool) -> Packet:
    if len(data) < 20:
        raise Malformed("header is cut")
    header, length = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
    if header < 20 or length < header or len(data) < header:
        raise Malformed("lengths")
    if whole and len(data) < length:
        raise Malformed("packet is cut")
    flags = int.from_bytes(data[6:8], "big")
    ends = Endpoints(IPv4Address(data[12:16]), 0, IPv4Address(data[16:20]), 0)
    return Packet(data[:length], ends, data[9], header, (flags & 0x1FFF) * 8, bool(flags & 0x2000))


def _read_ipv6(data: bytes, whole: bool) -> Packet:
    if len(data) < 40:
        raise Malformed("header is cut")
    length = 40 + int.from_bytes(data[4:6], "big")
    if whole and len(data) < length:
        raise Malformed("packet is cut")
    ends = Endpoints(IPv6Address(data[8:24]), 0, IPv6Address(data[24:40]), 0)
    if data[6] != FRAGMENT6:
        return Packet(data[:length], ends, data[6], 40)
    if len(data) < 48 or length < 48:
        raise Malformed("fragment header is cut")
    offset = int.from_bytes(data[42:44], "big")
    return Packet(data[:length], ends, data[40], 48, offset & 0xFFF8, bool(offset & 1))


def _with_ports(packet: Packet) -> Endpoints:
    body = packet.body
    if packet.protocol in (TCP, UDP):
        first, second = struct.unpack_from("!HH", body)
    elif packet.icmp in ECHO_REQUESTS | ECHO_REPLIES:
        first = second = struct.unpack_from("!H", body, 4)[0]
    else:
        first = second = 0
    return replace(packet.ends, source_port=first, destination_port=second)


def rewritten(packet: Packet, ends: Endpoints, *, quoted: bool = False) -> Packet:
    """The packet between other endpoints of the same family, as a translator would send it (RFC 1624).

    Within an ICMP error (`quoted`) only headers matter; the checksum of what they carry stays that of the wire.
    """
    data, old = bytearray(packet.data), packet.ends
    before = old.source.packed + old.destination.packed
    after = ends.source.packed + ends.destination.packed
    start = 12 if packet.version == 4 else 8
    data[start : start + len(after)] = after
    if packet.version == 4:
        _patch(data, 10, before, after)
    if packet.fragment:
        return replace(packet, data=bytes(data), ends=ends)
    _rewrite_transport(data, packet, ends)
    if quoted and CHECKSUM_AT[packet.protocol] + 2 <= len(packet.body):
        at = packet.transport + CHECKSUM_AT[packet.protocol]
        data[at : at + 2] = packet.data[at : at + 2]
    return replace(packet, data=bytes(data), ends=ends)


def _rewrite_transport(data: bytearray, packet: Packet, ends: Endpoints) -> None:
    old, at = packet.ends, packet.transport
    before = old.source.packed + old.destination.packed
    after = ends.source.packed + ends.destination.packed
    if packet.protocol in (TCP, UDP):
        old_ports = struct.pack("!HH", old.source_port, old.destination_port)
        new_ports = struct.pack("!HH", ends.source_port, ends.destination_port)
        data[at : at + 4] = new_ports
        has_sum = packet.protocol == TCP or data[at + 6 : at + 8] != b"\0\0"
        if has_sum and len(packet.body) >= CHECKSUM_AT[packet.protocol] + 2:
            _patch(data, at + CHECKSUM_AT[packet.protocol], before + old_ports, after + new_ports)
            if packet.protocol == UDP and data[at + 6 : at + 8] == b"\0\0":
                data[at + 6 : at + 8] = b"\xff\xff"
    elif packet.icmp in ECHO_REQUESTS | ECHO_REPLIES:
        identifier = ends.source_port if ends.source_port != old.source_port else ends.destination_port
        data[at + 4 : at + 6] = identifier.to_bytes(2, "big")
        _patch(data, at + 2, old.source_port.to_bytes(2, "big"), identifier.to_bytes(2, "big"))
        if packet.protocol == ICMPV6:
            _patch(data, at + 2, before, after)
    elif packet.protocol == ICMPV6:
        _patch(data, at + 2, before, after)


def with_quote(error: Packet, quote: Packet, source: IPAddress, destination: IPAddress) -> Packet:
    """An ICMP error that complains about another packet of the same length, between other hosts."""
    start = error.transport + ERROR_HEADER
    data = bytearray(error.data[:start] + quote.data + error.data[start + len(quote.data) :])
    data[error.transport + 2 : error.transport + 4] = b"\0\0"
    made = rewritten(replace(error, data=bytes(data)), replace(error.ends, source=source, destination=destination))
    data, body = bytearray(made.data), bytearray(made.body)
    body[2:4] = b"\0\0"
    covered = bytes(body)
    if error.protocol == ICMPV6:
        covered = pseudo_header(source, destination, ICMPV6, len(body)) + covered
    data[made.transport + 2 : made.transport + 4] = checksum(covered).to_bytes(2, "big")
    return replace(made, data=bytes(data))


def _patch(data: bytearray, at: int, before: bytes, after: bytes) -> None:
    old = ~int.from_bytes(data[at : at + 2], "big") & 0xFFFF
    inverted = bytes(~byte & 0xFF for byte in before)
    data[at : at + 2] = checksum(old.to_bytes(2, "big") + inverted + after).to_bytes(2, "big")


def verified(packet: Packet) -> bool:
    """Are all checksums right that can be checked? UDP over IPv4 may go without."""
    if packet.version == 4 and summed(packet.data[: packet.transport]) != 0xFFFF:
        return False
    if packet.fragment or packet.more:
        return True
    if packet.protocol == UDP and packet.version == 4 and packet.body[6:8] == b"\0\0":
        return True
    covered = packet.body
    if packet.protocol != ICMP:
        ends = packet.ends
        covered = pseudo_header(ends.source, ends.destination, packet.protocol, len(covered)) + covered
    return summed(covered) == 0xFFFF
