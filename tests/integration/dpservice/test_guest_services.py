"""ARP, neighbor discovery and DHCP answers, byte by byte, on a veth and on a TAP."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.integration.dpservice.frames import (
    BROADCAST,
    arp,
    dhcp_request,
    ethernet,
    icmpv6,
    ipv4,
    mac,
    udp,
)
from tests.integration.dpservice.guest_port import ARP, IPV4, IPV6, LINK_LOCAL, Port
from tests.integration.dpservice.lab import GATEWAY4, GATEWAY6, Lab, eventually
from tests.integration.dpservice.namespaces import inside

RS, NS, NA = (struct.pack("!BBHI", *head) for head in ((133, 0, 0, 0), (135, 0, 0, 0), (136, 0, 0, 0xE0000000)))
XID = 0x12345678


@pytest.fixture(params=["veth", "tap"])
def port(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Port]:
    made = Port(lab, request.param)
    yield made
    made.close()


def test_gateway_answers(port: Port) -> None:
    """One lab for all rows: what is sent, and the exact frame that comes back."""
    client, gateway = port.client, port.gateway
    solicit = icmpv6(
        LINK_LOCAL, "ff02::1:ff00:1", NS + IPv6Address(GATEWAY6).packed
        + b"\x01\x01" + mac(client),
    )  # fmt: skip
    advert = icmpv6(
        GATEWAY6, LINK_LOCAL, NA + IPv6Address(GATEWAY6).packed
        + b"\x02\x01" + mac(gateway),
    )  # fmt: skip
    without_option = icmpv6("2001:db8::1", GATEWAY6, NS + IPv6Address(GATEWAY6).packed)
    advert_to_global = icmpv6(
        GATEWAY6, "2001:db8::1", NA + IPv6Address(GATEWAY6).packed
        + b"\x02\x01" + mac(gateway),
    )  # fmt: skip
    router = struct.pack("!BBHBBHII", 134, 0, 0, 255, 0xC0, 65535, 0, 0) + b"\x01\x01" + mac(gateway)
    rows = {
        "ARP for the gateway": (
            ethernet(BROADCAST, client, ARP, arp(1, client, "10.0.0.1", "00:00:00:00:00:00", GATEWAY4)),
            ethernet(client, gateway, ARP, arp(2, gateway, GATEWAY4, client, "10.0.0.1")),
        ),
        "ARP probe without an address": (
            ethernet(BROADCAST, client, ARP, arp(1, client, "0.0.0.0", "00:00:00:00:00:00", GATEWAY4)),
            ethernet(client, gateway, ARP, arp(2, gateway, GATEWAY4, client, "0.0.0.0")),
        ),
        "ARP for somebody else": (
            ethernet(BROADCAST, client, ARP, arp(1, client, "10.0.0.1", "00:00:00:00:00:00", "10.0.0.2")),
            None,
        ),
        "ARP with a stranger's MAC": (
            ethernet(BROADCAST, client, ARP, arp(1, "52:54:00:00:00:99", "10.0.0.1", client, GATEWAY4)),
            None,
        ),
        "NS with source link-layer option": (
            ethernet("33:33:ff:00:00:01", client, IPV6, solicit),
            ethernet(client, gateway, IPV6, advert),
        ),
        "NS without option, answer grows": (
            ethernet(gateway, client, IPV6, without_option),
            ethernet(client, gateway, IPV6, advert_to_global),
        ),
        "NS for another address": (
            ethernet(
                "33:33:ff:00:00:02", client, IPV6,
                icmpv6(LINK_LOCAL, "ff02::1:ff00:2", NS + IPv6Address("fe80::2").packed),
            ),
            None,
        ),
        "RS": (
            ethernet("33:33:00:00:00:02", client, IPV6, icmpv6(LINK_LOCAL, "ff02::2", RS)),
            ethernet(client, gateway, IPV6, icmpv6(GATEWAY6, LINK_LOCAL, router)),
        ),
        "RS without a source": (
            ethernet("33:33:00:00:00:02", client, IPV6, icmpv6("::", "ff02::2", RS)),
            ethernet("33:33:00:00:00:01", gateway, IPV6, icmpv6(GATEWAY6, "ff02::1", router)),
        ),
    }  # fmt: skip
    for name, (sent, expected) in rows.items():
        assert port.answer(sent, port.announcements() - {expected}) == expected, name


def _reply(port: Port, kind: int, flags: int) -> bytes:
    head = struct.pack("!BBBBIHH", 2, 1, 6, 0, XID, 0, flags) + bytes(4) + IPv4Address("10.0.0.1").packed
    head += IPv4Address(GATEWAY4).packed * 2 + mac(port.client) + bytes(10 + 192) + bytes((99, 130, 83, 99))
    gateway = IPv4Address(GATEWAY4).packed
    options = (
        bytes((53, 1, kind, 51, 4)) + b"\xff" * 4 + bytes((54, 4)) + gateway
        + bytes((121, 12, 16, 169, 254, 0, 0, 0, 0, 0)) + gateway
        + bytes((1, 4)) + b"\xff" * 4 + bytes((26, 2)) + struct.pack("!H", 1440)
        + bytes((6, 8, 8, 8, 8, 8, 9, 9, 9, 9)) + bytes((12, 4)) + b"vm-1" + b"\xff"
    )  # fmt: skip
    packet = ipv4(GATEWAY4, "10.0.0.1", 17, udp(67, 68, head + options))
    return ethernet(port.client, port.gateway, IPV4, packet)


def test_dhcp(port: Port) -> None:
    def sent(kind: int, flags: int = 0) -> bytes:
        message = udp(68, 67, dhcp_request(kind, port.client, XID, flags))
        return ethernet(BROADCAST, port.client, IPV4, ipv4("0.0.0.0", "255.255.255.255", 17, message))

    announced = port.announcements()
    assert port.answer(sent(1), announced) == _reply(port, 2, 0), "DISCOVER"
    assert port.answer(sent(3, 0x8000), announced) == _reply(port, 5, 0x8000), "REQUEST"
    before = port.host.drops()["dhcp"]
    for kind in (4, 7, 8):
        assert port.answer(sent(kind), announced) is None, "DECLINE, RELEASE, INFORM"
    assert port.host.drops()["dhcp"] == before + 3
    port.host.kill()
    assert port.answer(sent(1), announced) == _reply(port, 2, 0), "the data plane answers by itself"


def test_announcements(port: Port) -> None:
    """Without being asked the gateway tells where it is, and asks a silent guest for its MAC."""
    heard: set[bytes] = set()
    gratuitous = ethernet(BROADCAST, port.gateway, ARP, arp(1, port.gateway, GATEWAY4, "00:00:00:00:00:00", GATEWAY4))
    expected = port.announcements() - {gratuitous}

    def all_heard() -> bool:
        frame = port.receive()
        if frame is not None:
            heard.add(frame)
        return expected <= heard

    eventually(all_heard)
    before = port.host.drops()
    port.send(ethernet(port.gateway, port.client, ARP, arp(2, port.client, "10.0.0.1", port.gateway, GATEWAY4)))
    eventually(lambda: port.receive() == gratuitous)
    assert port.host.drops() == before


def test_dhcp_renewal_through_the_guests_udp_stack(lab: Lab) -> None:
    """The checksum of such a request is still to be completed by the kernel, and so is its reply's."""
    port = Port(lab, "veth", silent=False)
    assert port.guest is not None
    client = inside(port.guest.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client.bind((port.guest.ipv4, 68))
    client.settimeout(10)
    client.sendto(dhcp_request(3, port.client, XID), (GATEWAY4, 67))
    reply = eventually(lambda: client.recv(2048))
    assert reply[4:8] == struct.pack("!I", XID)
    assert reply[16:20] == IPv4Address("10.0.0.1").packed
    client.close()
    port.close()
