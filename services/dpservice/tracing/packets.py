"""Packets made of a few numbers, and frames as a line of text. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address

ETHERNET: Final = 14
ETHERTYPES: Final = {4: 0x0800, 6: 0x86DD}
ARP: Final = 0x0806
ICMP, IPIP, TCP, UDP, IPV6_IN_IPV6, ICMPV6 = 1, 4, 6, 17, 41, 58
PROTOCOLS: Final = {ICMP: "ICMP", TCP: "TCP", UDP: "UDP", ICMPV6: "ICMPv6"}
FLAGS: Final = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16}
HOP_LIMIT: Final = 64
TCP_WINDOW: Final = 65535
ECHO_REQUEST: Final = {4: 8, 6: 128}
PORT_MAX: Final = 2**16 - 1
PAYLOAD_MAX: Final = PORT_MAX - 60  # less the longest headers that are made here


class BadPacket(Exception):
    """The text says why there is no such packet."""


@dataclass(frozen=True)
class Wanted:
    """A packet; of ICMP, `source_port` is the type and `destination_port` the identifier of an echo."""

    source: IPAddress
    destination: IPAddress
    protocol: int
    source_port: int
    destination_port: int
    flags: int = FLAGS["syn"]
    payload: int = 0

    def packet(self) -> bytes:
        """The IP packet. Raises BadPacket."""
        if self.source.version != self.destination.version:
            raise BadPacket(f"{self.source} and {self.destination} are not of one family")
        if not (0 <= self.source_port <= PORT_MAX and 0 <= self.destination_port <= PORT_MAX):
            raise BadPacket(f"{self.source_port}, {self.destination_port}: not within 0-{PORT_MAX}")
        if self.payload > PAYLOAD_MAX:
            raise BadPacket(f"{self.payload} bytes are more than a packet has room for")
        body = self._transport()
        at = {TCP: 16, UDP: 6}.get(self.protocol, 2)
        pseudo = b"" if self.protocol == ICMP else self._pseudo_header(len(body))
        body = body[:at] + struct.pack("!H", checksum(pseudo + body) or 0xFFFF) + body[at + 2 :]
        return ip_header(self.source, self.destination, self.protocol, len(body)) + body

    def _transport(self) -> bytes:
        data = bytes(self.payload)
        if self.protocol == TCP:
            head = struct.pack("!HHIIBBHHH", self.source_port, self.destination_port, 1, 0, 5 << 4, self.flags,
                               TCP_WINDOW, 0, 0)  # fmt: skip
            return head + data
        if self.protocol == UDP:
            return struct.pack("!HHHH", self.source_port, self.destination_port, 8 + len(data), 0) + data
        if self.source_port > 0xFF:
            raise BadPacket(f"{self.source_port} is no type of ICMP")
        return struct.pack("!BBHHH", self.source_port, 0, 0, self.destination_port, 1) + data

    def _pseudo_header(self, length: int) -> bytes:
        ends = self.source.packed + self.destination.packed
        return ends + struct.pack("!II", length, self.protocol)


def ip_header(source: IPAddress, destination: IPAddress, protocol: int, length: int) -> bytes:
    """The header of a packet that carries `length` bytes."""
    ends = source.packed + destination.packed
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, length, protocol, HOP_LIMIT) + ends
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, HOP_LIMIT, protocol, 0) + ends
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:]


def framed(packet: bytes, destination_mac: bytes, source_mac: bytes) -> bytes:
    """With an Ethernet header."""
    return destination_mac + source_mac + struct.pack("!H", ETHERTYPES[packet[0] >> 4]) + packet


def tunnelled(packet: bytes, source: IPv6Address, destination: IPv6Address) -> bytes:
    """With an outer header."""
    protocol = IPIP if packet[0] >> 4 == 4 else IPV6_IN_IPV6
    return ip_header(source, destination, protocol, len(packet)) + packet


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    total += data[-1] << 8 if len(data) % 2 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def described(frame: bytes) -> str:
    """A frame in a line: `fc00::1 > fc00::2 | 10.0.0.1:40000 > 10.0.0.2:80 TCP syn, 94 bytes`."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == ARP:
        text = "ARP reply" if frame[20:22] == b"\0\2" else "ARP request"
    elif kind in ETHERTYPES.values():
        text = _ip(frame[ETHERNET:])
    else:
        text = f"EtherType 0x{kind:04x}"
    return f"{text}, {len(frame)} bytes"


def _ip(packet: bytes) -> str:
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        size, protocol = (packet[0] & 15) * 4, packet[9]
        source, destination = str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20]))
        is_first = not int.from_bytes(packet[6:8], "big") & 0x1FFF
    elif version == 6 and len(packet) >= 40:
        size, protocol, is_first = 40, packet[6], True
        source, destination = str(IPv6Address(packet[8:24])), str(IPv6Address(packet[24:40]))
    else:
        return "a packet cut short"
    rest = packet[size:]
    if protocol in (IPIP, IPV6_IN_IPV6):
        return f"{source} > {destination} | {_ip(rest)}"
    name = PROTOCOLS.get(protocol, f"protocol {protocol}")
    if not is_first:
        return f"{source} > {destination} {name}, a later fragment"
    if protocol in (TCP, UDP) and len(rest) >= 8:
        ports = struct.unpack("!HH", rest[:4])
        if version == 6:
            source, destination = f"[{source}]", f"[{destination}]"
        text = f"{source}:{ports[0]} > {destination}:{ports[1]} {name}"
        return f"{text} {flag_text(rest[13])}" if protocol == TCP and len(rest) >= 14 else text
    if protocol in (ICMP, ICMPV6) and len(rest) >= 8:
        return f"{source} > {destination} {name} {_message(version, rest)}"
    return f"{source} > {destination} {name}"


def _message(version: int, rest: bytes) -> str:
    request = ECHO_REQUEST[version]
    replies = {4: 0, 6: 129}
    if rest[0] in (request, replies[version]):
        what = "echo request" if rest[0] == request else "echo reply"
        return f"{what}, identifier {int.from_bytes(rest[4:6], 'big')}"
    about = f" about {_ip(rest[8:])}" if rest[0] in ((3, 11, 12) if version == 4 else (1, 2, 3, 4)) else ""
    return f"type {rest[0]} code {rest[1]}{about}"


def flag_text(flags: int) -> str:
    """TCP's flags by name."""
    return "+".join(name for name, bit in FLAGS.items() if flags & bit) or "no flags"
