"""Guests may leave checksums to the kernel, and say where they go: not to their addresses and ports."""

from __future__ import annotations

import os
import struct
import time
from ipaddress import IPv4Address

import pytest

from tests.integration.dpservice.frames import BROADCAST, arp, ethernet, icmpv6, ipv4, ipv6, udp, udp6
from tests.integration.dpservice.guest_port import ARP, IPV4, IPV6, Port
from tests.integration.dpservice.lab import GATEWAY4, Lab
from tests.integration.dpservice.namespaces import inside, raw_socket, switch_off

ETHTOOL_STXCSUM = 0x17
NEEDS_CHECKSUM = 1  # virtio_net_hdr
OWN, STRANGER, OWN6, STRANGER6 = "10.0.0.1", "198.51.100.9", "2001:db8::1", "2001:db8:9::9"
TCP = struct.pack("!HHIIBBHHH", 7, 80, 7, 9, 0x50, 2, 4096, 0, 0)
ECHO = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + bytes(8)
PACKETS = {
    "UDP": ipv4(OWN, STRANGER, 17, udp(7, 53, bytes(20))),
    "TCP": ipv4(OWN, STRANGER, 6, TCP),
    "ICMP": ipv4(OWN, STRANGER, 1, ECHO),
    "UDP6": ipv6(OWN6, STRANGER6, 17, udp6(OWN6, STRANGER6, 7, 53, bytes(20))),
    "ICMPv6": icmpv6(OWN6, STRANGER6, b"\x80\0\0\0\0\x07\0\x01" + bytes(8)),
}


@pytest.fixture
def port(lab: Lab) -> Port:
    """A guest behind a TAP, whose uplinks have every checksum completed before it is sent."""
    made = Port(lab, "tap", options=())
    for prefix in ("0.0.0.0/0", "::/0"):
        made.host.route(100, prefix, "fc00:1:0:2::1")
    for uplink in ("pf0", "pf1"):
        inside(made.host.namespace, lambda uplink=uplink: switch_off(uplink, ETHTOOL_STXCSUM))  # type: ignore[misc]
    made.send(ethernet(BROADCAST, made.client, ARP, arp(1, made.client, OWN, "00:00:00:00:00:00", GATEWAY4)))
    return made


def test_checksums_are_written_behind_addresses_and_ports(port: Port, lab: Lab) -> None:
    """`start` is where the sum begins, `place` (behind it) where it is written; both within the frame."""
    rows = [
        ("UDP", 34, 6, True),
        ("UDP", 34, 12, True),  # of a tunnel inside, which is payload
        ("UDP", 20, 6, False),  # source, upper half
        ("UDP", 20, 8, False),
        ("UDP", 20, 10, False),  # destination
        ("UDP", 20, 3, False),  # protocol
        ("UDP", 34, 0, False),  # ports
        ("UDP", 34, 2, False),
        ("TCP", 34, 16, True),
        ("TCP", 34, 2, False),
        ("TCP", 34, 12, False),  # flags
        ("ICMP", 34, 2, False),  # has no partial checksum
        ("ICMP", 34, 4, False),  # the identifier
        ("UDP6", 54, 6, True),
        ("UDP6", 40, 6, False),  # destination
        ("ICMPv6", 54, 4, False),
    ]
    with raw_socket(lab.fabric, "h1pf0") as fabric:
        for _ in range(2):  # the slow path, then the fast one
            for name, start, place, passes in rows:
                packet = PACKETS[name]
                kind = IPV4 if packet[0] >> 4 == 4 else IPV6
                frame = ethernet(port.gateway, port.client, kind, packet)
                before = port.host.drops()["checksum"]
                os.write(port.tap, struct.pack("=BBHHHH", NEEDS_CHECKSUM, 0, 0, 0, start, place) + frame)
                came = _tunnelled(fabric, 10.0 if passes else 0.1)
                assert (came is not None) is passes, (name, start, place)
                assert port.host.drops()["checksum"] == before + (not passes), (name, start, place)
                if came is not None:
                    at = start + place - 14
                    assert came[:at] == packet[:at]
                    assert came[at : at + 2] != packet[at : at + 2], "the kernel completed it"
        plain = ethernet(port.gateway, port.client, IPV4, PACKETS["UDP"])
        port.send(plain)
        assert _tunnelled(fabric, 10.0) == PACKETS["UDP"]
        assert IPv4Address(OWN).packed == PACKETS["UDP"][12:16]


def _tunnelled(fabric: object, seconds: float) -> bytes | None:
    """The next packet out of a tunnel."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        fabric.settimeout(left)  # type: ignore[attr-defined]
        try:
            frame: bytes = fabric.recv(4096)  # type: ignore[attr-defined]
        except TimeoutError:
            return None
        if frame[12:14] == b"\x86\xdd" and frame[20] in (4, 41):
            return frame[54:]
    return None
