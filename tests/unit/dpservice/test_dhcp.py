from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from services.dpservice.guest.dhcp import reply_frame
from services.dpservice.guest.services import DNS_LIMIT, GuestServices

ADDRESS = IPv4Address("10.0.0.1")
MESSAGE, OPTIONS = 42, 42 + 240
FRAME_LIMIT = 1024  # DHCP_FRAME_MAX of bpf/layout.h


def options(frame: bytes) -> list[tuple[int, bytes]]:
    found, at = [], OPTIONS
    while frame[at] != 255:
        found.append((frame[at], frame[at + 2 : at + 2 + frame[at + 1]]))
        at += 2 + frame[at + 1]
    return found


def test_options_in_their_order() -> None:
    frame = reply_frame(ADDRESS, "vm-1", GuestServices(1440, (IPv4Address("8.8.8.8"),)))
    assert options(frame) == [
        (53, b"\x02"),
        (51, b"\xff\xff\xff\xff"),
        (54, b"\xa9\xfe\x00\x01"),
        (121, bytes.fromhex("10a9fe0000000000a9fe0001")),
        (1, b"\xff\xff\xff\xff"),
        (26, struct.pack("!H", 1440)),
        (6, b"\x08\x08\x08\x08"),
        (12, b"vm-1"),
    ]


def test_options_that_nobody_asked_for_are_absent() -> None:
    assert {code for code, _ in options(reply_frame(ADDRESS, "", GuestServices()))} == {53, 51, 54, 121, 1, 26}


def test_headers() -> None:
    frame = reply_frame(ADDRESS, "", GuestServices())
    assert frame[12:14] == b"\x08\x00"
    assert struct.unpack("!H", frame[16:18])[0] == len(frame) - 14
    assert sum(struct.unpack("!10H", frame[14:34])) % 0xFFFF == 0, "IPv4 header checksum"
    assert frame[34:38] == struct.pack("!HH", 67, 68)
    assert struct.unpack("!H", frame[38:40])[0] == len(frame) - 34
    assert frame[MESSAGE + 16 : MESSAGE + 28] == ADDRESS.packed + IPv4Address("169.254.0.1").packed * 2


def test_longest_reply_fits_the_map() -> None:
    services = GuestServices(1500, tuple(IPv4Address(number) for number in range(DNS_LIMIT)))
    assert len(reply_frame(ADDRESS, "h" * 63, services)) <= FRAME_LIMIT


@pytest.mark.parametrize(
    ("mtu", "servers", "rule"),
    [
        pytest.param(67, 0, "dhcp-mtu: 67 is not within 68-1500", id="MTU below 68"),
        pytest.param(1501, 0, "dhcp-mtu: 1501 is not within 68-1500", id="MTU above 1500"),
        pytest.param(1500, 64, "dhcp-dns: more than 63 servers", id="too many servers"),
    ],
)
def test_refused(mtu: int, servers: int, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        GuestServices(mtu, (ADDRESS,) * servers)
