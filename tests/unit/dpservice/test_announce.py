from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from services.dpservice.guest.announce import arp_announcement, neighbor_announcement, router_announcement

MAC, GUEST = bytes.fromhex("020000000001"), IPv4Address("10.0.0.1")
GATEWAY = IPv4Address("169.254.0.1")


@pytest.mark.parametrize(
    ("known", "target"),
    [pytest.param(True, GATEWAY, id="gratuitous"), pytest.param(False, GUEST, id="asks a silent guest")],
)
def test_arp(known: bool, target: IPv4Address) -> None:
    frame = arp_announcement(MAC, GUEST, known=known)
    assert frame[:14] == b"\xff" * 6 + MAC + b"\x08\x06"
    assert frame[14:22] == bytes.fromhex("0001080006040001")
    assert frame[22:] == MAC + GATEWAY.packed + bytes(6) + target.packed


@pytest.mark.parametrize("frame", [neighbor_announcement(MAC), router_announcement(MAC)], ids=["neighbor", "router"])
def test_nd_headers_and_checksum(frame: bytes) -> None:
    assert frame[:14] == bytes.fromhex("333300000001") + MAC + b"\x86\xdd"
    assert frame[14:22] == struct.pack("!IHBB", 6 << 28, len(frame) - 54, 58, 255)
    source, destination = frame[22:38], frame[38:54]
    assert (source, destination) == (IPv6Address("fe80::1").packed, IPv6Address("ff02::1").packed)
    summed = source + destination + struct.pack("!II", len(frame) - 54, 58) + frame[54:]
    assert sum(struct.unpack(f"!{len(summed) // 2}H", summed)) % 0xFFFF == 0


def test_nd_messages() -> None:
    neighbor, router = neighbor_announcement(MAC)[54:], router_announcement(MAC)[54:]
    assert neighbor[:2] + neighbor[4:] == b"\x88\0\xa0\0\0\0" + IPv6Address("fe80::1").packed
    assert router[:2] + router[4:8] == b"\x86\0\xff\xc0\xff\xff"
    assert router[16:] == b"\x01\x01" + MAC
