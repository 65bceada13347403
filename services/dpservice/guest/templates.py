"""All answers that are made beforehand for an interface; the programs choose one for each request."""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from services.dpservice.guest import dhcp, dhcp6
from services.dpservice.guest.boot import Boot
from services.dpservice.guest.dhcp import Stage
from services.dpservice.guest.services import GuestServices


class Template(IntEnum):
    """What an answer is for; `enum template_kind` of the programs."""

    DHCP = 0
    DHCP_FIRMWARE = 1
    DHCP_IPXE = 2
    DHCP6 = 3
    DHCP6_FIRMWARE = 4
    DHCP6_IPXE = 5
    DHCP6_REFUSAL = 6


Templates: TypeAlias = tuple[tuple[Template, bytes], ...]


def templates(
    ipv4: IPv4Address | None, ipv6: IPv6Address | None, hostname: str, boot: Boot | None, services: GuestServices
) -> Templates:
    """In the order of their kinds. A boot server helps only guests of its own family."""
    made: list[tuple[Template, bytes]] = []
    if ipv4 is not None:
        made.append((Template.DHCP, dhcp.reply_frame(ipv4, hostname, services)))
        if boot is not None and boot.server.version == 4:
            for kind, stage in ((Template.DHCP_FIRMWARE, Stage.FIRMWARE), (Template.DHCP_IPXE, Stage.IPXE)):
                made.append((kind, dhcp.reply_frame(ipv4, hostname, services, stage, boot)))
    if ipv6 is None:
        made.append((Template.DHCP6_REFUSAL, dhcp6.refusal_frame()))
        return tuple(made)
    made.append((Template.DHCP6, dhcp6.reply_frame(ipv6, services.dns6)))
    if boot is not None and boot.server.version == 6:
        made.append((Template.DHCP6_FIRMWARE, dhcp6.reply_frame(ipv6, services.dns6, boot.first_url6)))
        made.append((Template.DHCP6_IPXE, dhcp6.reply_frame(ipv6, services.dns6, boot.second_url6)))
    return tuple(made)
