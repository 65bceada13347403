from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from services.dpservice.guest.boot import Boot, boot_of
from services.dpservice.guest.dhcp import Stage, reply_frame
from services.dpservice.guest.dhcp6 import refusal_frame
from services.dpservice.guest.services import DNS6_LIMIT, DNS_LIMIT, GuestServices
from services.dpservice.guest.templates import Template, templates
from services.dpservice.guest.virtual import VirtualService, service_underlay
from services.dpservice.recording import pcap

IPV4, IPV6 = IPv4Address("10.0.0.1"), IPv6Address("2001:db8::1")
BOOT4, BOOT6 = boot_of("192.0.2.9", "/boot"), boot_of("2001:db8::9", "boot")
T = Template


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "boot", "kinds"),
    [
        pytest.param(IPV4, IPV6, None, {T.DHCP, T.DHCP6}, id="both families"),
        pytest.param(IPV4, None, None, {T.DHCP, T.DHCP6_REFUSAL}, id="IPv4 alone"),
        pytest.param(None, IPV6, None, {T.DHCP6}, id="IPv6 alone"),
        pytest.param(IPV4, None, BOOT4, {T.DHCP, T.DHCP_FIRMWARE, T.DHCP_IPXE, T.DHCP6_REFUSAL}, id="boots over IPv4"),
        pytest.param(IPV4, IPV6, BOOT6, {T.DHCP, T.DHCP6, T.DHCP6_FIRMWARE, T.DHCP6_IPXE}, id="boots over IPv6"),
    ],
)
def test_kinds(ipv4: IPv4Address | None, ipv6: IPv6Address | None, boot: Boot | None, kinds: set[Template]) -> None:
    made = templates(ipv4, ipv6, "vm", boot, GuestServices())
    assert {kind for kind, _ in made} == kinds
    assert list(made) == sorted(made)


def test_the_largest_of_all_fits() -> None:
    """What the programs have room for, with everything at its limit."""
    services = GuestServices(1500, (IPV4,) * DNS_LIMIT, (IPV6,) * DNS6_LIMIT, service_route=True)
    address = "2001:db8:1111:2222:3333:4444:5555:6666"
    for boot in (boot_of(address, "f" * 31), boot_of("255.255.255.255", "f" * 31)):
        for _, frame in templates(IPV4, IPV6, "h" * 63, boot, services):
            assert len(frame) <= 1024 - 132 - 4  # client id and rapid commit are still to come


def test_route_to_virtual_services() -> None:
    frame = reply_frame(IPV4, "", GuestServices(service_route=True))
    assert bytes((121, 20, 16, 169, 254, 0, 0, 0, 0, 0, 169, 254, 0, 1, 24, 169, 254, 1, 169, 254, 0, 1)) in frame


def test_nothing_to_boot_from() -> None:
    with pytest.raises(ValueError, match="nothing to boot from"):
        reply_frame(IPV4, "", GuestServices(), Stage.IPXE)
    assert boot_of("", "file") is None


def test_refusal() -> None:
    assert refusal_frame()[66:] == struct.pack("!HHH", 13, 2, 2)


def test_underlay_of_virtual_services() -> None:
    prefix = IPv6Address("fc00:1::").packed[:8]
    assert service_underlay(prefix, 1) == IPv6Address("fc00:1::d0ff:4000:100:0")
    service = VirtualService("tcp", IPv4Address("169.254.1.1"), 80, IPV6, 8080)
    assert str(service) == "TCP:169.254.1.1:80"


def test_pcap() -> None:
    assert pcap.file_header(64) == struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 64, 1)
    assert pcap.packet(3_000_000_007, 100, b"abc") == struct.pack("<IIII", 3, 7, 3, 100) + b"abc"
