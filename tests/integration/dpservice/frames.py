"""Frames for tests, built by hand: an independent view of the formats."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

BROADCAST = "ff:ff:ff:ff:ff:ff"


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(to: str, sender: str, kind: int, payload: bytes) -> bytes:
    return mac(to) + mac(sender) + struct.pack("!H", kind) + payload


def ipv4(source: str, destination: str, protocol: int, payload: bytes, ttl: int = 64) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, ttl, protocol, 0)
    head += IPv4Address(source).packed + IPv4Address(destination).packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source: str, destination: str, protocol: int, payload: bytes, hop_limit: int = 64) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
    return head + IPv6Address(source).packed + IPv6Address(destination).packed + payload


def udp(source: int, destination: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


def icmpv6(source: str, destination: str, message: bytes) -> bytes:
    """An ND packet (hop limit 255) with its checksum; `message` has zero there."""
    pseudo = IPv6Address(source).packed + IPv6Address(destination).packed + struct.pack("!II", len(message), 58)
    summed = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    return ipv6(source, destination, 58, summed, 255)


def arp(operation: int, sender_mac: str, sender: str, target_mac: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return head + mac(sender_mac) + IPv4Address(sender).packed + mac(target_mac) + IPv4Address(target).packed


def dhcp_request(kind: int, client: str, xid: int, flags: int = 0x8000) -> bytes:
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, xid, 3, flags) + bytes(16) + mac(client) + bytes(10 + 192)
    options = bytes((99, 130, 83, 99, 12, 2)) + b"vm" + bytes((0, 53, 1, kind, 55, 3, 1, 3, 6, 255))
    return head + options + bytes(8)


def udp6(source: str, destination: str, source_port: int, destination_port: int, payload: bytes) -> bytes:
    """With the checksum that IPv6 asks for."""
    length = 8 + len(payload)
    pseudo = IPv6Address(source).packed + IPv6Address(destination).packed + struct.pack("!II", length, 17)
    head = struct.pack("!HHH", source_port, destination_port, length)
    total = checksum(pseudo + head + b"\0\0" + payload + b"\0" * (length % 2))
    return head + struct.pack("!H", total or 0xFFFF) + payload
