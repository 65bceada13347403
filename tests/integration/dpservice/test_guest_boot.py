"""DHCPv6 and booting from the network, byte by byte: what a guest sends and the exact frame that it gets."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.integration.dpservice.frames import BROADCAST, ethernet, ipv4, ipv6, mac, udp, udp6
from tests.integration.dpservice.guest_port import IPV4, IPV6, LINK_LOCAL, Port
from tests.integration.dpservice.lab import GATEWAY4, GATEWAY6, Lab

SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE, INFORMATION, RELAY = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12),
)
XID, TRANSACTION = 0x12345678, b"\x01\x02\x03"
IAID = b"\xca\xfe\xba\xbe"
SERVERS = ("2001:4860:4860::8888", "2620:fe::fe")
FIRMWARE = b"PXEClient:Arch:00007:UNDI:003016"
BOOT6 = ("2001:db8::99", "ipxe/boot6.ipxe")
BOOT4 = ("192.0.2.9", "/ipxe/boot.ipxe")


def option(code: int, value: bytes = b"") -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def client_id(length: int = 10) -> bytes:
    return option(1, (b"\x00\x03\x00\x01" + mac("52:54:00:00:01:00") + bytes(range(128)))[:length])


IA = option(3, IAID + bytes(8))
RAPID = option(14)
FIRMWARE_CLASS = option(16, struct.pack("!IH", 343, len(FIRMWARE)) + FIRMWARE)
IPXE_CLASS = option(15, b"\x00\x04iPXE")


def dhcp6(kind: int, *options: bytes, source: str = LINK_LOCAL) -> bytes:
    message = bytes((kind,)) + TRANSACTION + b"".join(options)
    return ethernet(
        "33:33:00:01:00:02", "52:54:00:00:01:00", IPV6,
        ipv6(source, "ff02::1:2", 17, udp6(source, "ff02::1:2", 546, 547, message)),
    )  # fmt: skip


def answer6(port: Port, kind: int, *options: bytes, to: str = LINK_LOCAL) -> bytes:
    message = bytes((kind,)) + TRANSACTION + b"".join(options)
    return ethernet(
        port.client, port.gateway, IPV6, ipv6(GATEWAY6, to, 17, udp6(GATEWAY6, to, 547, 546, message))
    )  # fmt: skip


def _made(port: Port, expected: tuple[int, list[bytes]] | None) -> bytes | None:
    return answer6(port, expected[0], *expected[1]) if expected else None


SERVER_ID = option(2, b"\x00\x03\xab\xcd" + mac("52:54:00:00:01:00"))
FOREVER = b"\xff" * 4
LEASE = option(
    3, IAID + FOREVER * 2 + option(5, IPv6Address("2001:db8::1").packed + FOREVER * 2 + option(13, b"\x00\x00"))
)
DNS = option(23, b"".join(IPv6Address(server).packed for server in SERVERS))
TFTP = option(59, b"tftp://[2001:db8::99]/ipxe/x86_64/ipxe.new")
HTTP = option(59, b"http://[2001:db8::99]/ipxe/boot6.ipxe")


@pytest.fixture(params=["veth", "tap"])
def port(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Port]:
    made = Port(lab, request.param, boot=BOOT6)
    yield made
    made.close()


def test_dhcpv6(port: Port) -> None:
    """One lab for all rows; the last ones with the daemon dead."""
    elapsed = option(8, b"\x00\x00")
    rows: dict[str, tuple[bytes, tuple[int, list[bytes]] | None]] = {
        "SOLICIT": (dhcp6(SOLICIT, client_id(), elapsed, IA), (ADVERTISE, [SERVER_ID, client_id(), LEASE, DNS])),
        "SOLICIT with rapid commit": (
            dhcp6(SOLICIT, RAPID, client_id(), IA),
            (ADVERTISE, [SERVER_ID, client_id(), LEASE, RAPID, DNS]),
        ),
        "REQUEST, odd client id": (
            dhcp6(REQUEST, IA, client_id(11), SERVER_ID),
            (REPLY, [SERVER_ID, client_id(11), LEASE, DNS]),
        ),
        "REQUEST, longest client id": (
            dhcp6(REQUEST, client_id(128), IA),
            (REPLY, [SERVER_ID, client_id(128), LEASE, DNS]),
        ),
        "client id too long": (dhcp6(REQUEST, option(1, bytes(129)), IA), None),
        "RENEW": (dhcp6(RENEW, client_id(), SERVER_ID, IA), (REPLY, [SERVER_ID, client_id(), LEASE, DNS])),
        "REBIND": (dhcp6(REBIND, client_id(), IA), (REPLY, [SERVER_ID, client_id(), LEASE, DNS])),
        "RELEASE": (dhcp6(RELEASE, client_id(), SERVER_ID, IA), (REPLY, [SERVER_ID, client_id(), LEASE, DNS])),
        "CONFIRM": (dhcp6(CONFIRM, client_id(), IA), (REPLY, [])),
        "INFORMATION-REQUEST": (dhcp6(INFORMATION, client_id()), (REPLY, [SERVER_ID, client_id(), DNS])),
        "nothing asked for": (dhcp6(SOLICIT), (ADVERTISE, [SERVER_ID, DNS])),
        "DECLINE": (dhcp6(DECLINE, client_id(), IA), None),
        "relayed": (dhcp6(RELAY, client_id(), IA), None),
        "REPLY of a guest": (dhcp6(REPLY, client_id(), IA), None),
        "firmware": (
            dhcp6(SOLICIT, client_id(), IA, FIRMWARE_CLASS),
            (ADVERTISE, [SERVER_ID, client_id(), LEASE, DNS, TFTP]),
        ),
        "iPXE": (dhcp6(REQUEST, client_id(), IA, IPXE_CLASS), (REPLY, [SERVER_ID, client_id(), LEASE, DNS, HTTP])),
        "iPXE on that firmware": (
            dhcp6(REQUEST, client_id(), IA, IPXE_CLASS, FIRMWARE_CLASS),
            (REPLY, [SERVER_ID, client_id(), LEASE, DNS, HTTP]),
        ),
        "after iPXE an operating system": (
            dhcp6(REQUEST, client_id(), IA),
            (REPLY, [SERVER_ID, client_id(), LEASE, DNS]),
        ),
        "option longer than the packet": (dhcp6(SOLICIT, client_id(), struct.pack("!HH", 3, 90) + IAID), None),
        "rapid commit with content": (dhcp6(SOLICIT, client_id(), option(14, b"x"), IA), None),
        "IA_NA too short": (dhcp6(SOLICIT, client_id(), option(3, IAID)), None),
    }
    for name, (sent, expected) in rows.items():
        assert port.answer(sent) == _made(port, expected), name
    for source in ("::", "::1", "2001:db8::1"):
        answer = answer6(port, ADVERTISE, SERVER_ID, LEASE, DNS, to=source)
        assert port.answer(dhcp6(SOLICIT, IA, source=source)) == answer, source
    assert port.answer(dhcp6(SOLICIT, IA, source="ff02::1")) is None
    port.host.kill()
    for name in ("SOLICIT", "firmware", "iPXE"):
        sent, expected = rows[name]
        assert port.answer(sent) == _made(port, expected), f"{name}, by the data plane alone"


def request4(kind: int, *options: tuple[int, bytes], client: str = "52:54:00:00:01:00") -> bytes:
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, XID, 3, 0x8000) + bytes(16) + mac(client) + bytes(10 + 192)
    fields = ((53, bytes((kind,))), *options)
    message = head + bytes((99, 130, 83, 99)) + b"".join(bytes((code, len(value))) + value for code, value in fields)
    packet = ipv4("0.0.0.0", "255.255.255.255", 17, udp(68, 67, message + b"\xff" + bytes(8)))
    return ethernet(BROADCAST, client, IPV4, packet)


def reply4(port: Port, kind: int, file: str = "", client: str = "52:54:00:00:01:00") -> bytes:
    """For an operating system without `file`, else for who boots."""
    gateway = IPv4Address(GATEWAY4).packed
    head = struct.pack("!BBBBIHH", 2, 1, 6, 0, XID, 0, 0x8000) + bytes(4) + IPv4Address("10.0.0.1").packed
    head += IPv4Address(BOOT4[0]).packed if file else gateway
    head += gateway + mac(client) + bytes(10 + 64) + struct.pack("128s", file.encode())
    options = (
        bytes((99, 130, 83, 99, 53, 1, kind, 51, 4)) + b"\xff" * 4 + bytes((54, 4)) + gateway
        + bytes((121, 12, 16, 169, 254, 0, 0, 0, 0, 0)) + gateway
        + bytes((1, 4)) + b"\xff" * 4 + bytes((26, 2)) + struct.pack("!H", 1440)
        + (bytes((3, 4)) + gateway if file else b"")
        + bytes((6, 8, 8, 8, 8, 8, 9, 9, 9, 9)) + bytes((12, 4)) + b"vm-1" + b"\xff"
    )  # fmt: skip
    to = "255.255.255.255" if file else "10.0.0.1"
    frame = ipv4(GATEWAY4, to, 17, udp(67, 68, head + options))
    return ethernet(BROADCAST if file else client, port.gateway, IPV4, frame)


def test_boot_without_ipv6(lab: Lab) -> None:
    """Firmware gets iPXE, iPXE its file, the system what it always gets; DHCPv6 says that there is no address."""
    port = Port(lab, "veth", ipv6="", boot=BOOT4)
    firmware, ipxe = (60, FIRMWARE), (77, b"iPXE")
    tftp, http = "ipxe/x86_64/ipxe.new", "http://192.0.2.9/ipxe/boot.ipxe"
    refusal = option(13, b"\x00\x02")
    rows = {
        "firmware, DISCOVER": (request4(1, firmware), reply4(port, 2, tftp)),
        "firmware, REQUEST": (request4(3, (12, b"x"), (60, b"a " + FIRMWARE)), reply4(port, 5, tftp)),
        "another architecture": (request4(1, (60, b"PXEClient:Arch:00000:UNDI:002001")), reply4(port, 2)),
        "iPXE": (request4(3, ipxe, firmware), reply4(port, 5, http)),
        "another user class": (request4(3, (77, b"iPXE2")), reply4(port, 5)),
        "then the system": (request4(3), reply4(port, 5)),
        "after a reboot with another MAC": (
            request4(3, client="52:54:00:00:01:77"),
            reply4(port, 5, client="52:54:00:00:01:77"),
        ),
        "SOLICIT": (dhcp6(SOLICIT, client_id(), IA), answer6(port, REPLY, refusal)),
        "REQUEST": (dhcp6(REQUEST, client_id(), IA), answer6(port, REPLY, refusal)),
        "CONFIRM": (dhcp6(CONFIRM, client_id(), IA), None),
        "RENEW": (dhcp6(RENEW, client_id(), IA), None),
    }
    for name, (sent, expected) in rows.items():
        assert port.answer(sent) == expected, name
    port.close()


def test_answers_are_limited(lab: Lab) -> None:
    """A guest that asks too much is not answered for a while; others are."""
    port = Port(lab, "veth", options=("--guest-answers=5",))
    asked = dhcp6(SOLICIT, client_id(), IA)
    before = port.host.drops()["answer_limit"]
    for _ in range(40):
        port.send(asked)
    refused = port.host.drops()["answer_limit"] - before
    assert 30 <= refused <= 35
    heard = 0
    while (frame := port.receive()) is not None:
        heard += frame[12:14] == b"\x86\xdd" and frame[54:56] == struct.pack("!H", 547)
    assert heard == 40 - refused
    assert port.answer(asked) is not None, "a second later"
    port.close()
