"""Network boot: what firmware and then iPXE are told to load. The server is an address of the guest's own family.

Firmware (UEFI on x86-64, client architecture 7 of RFC 4578) gets iPXE itself by TFTP; iPXE gets the interface's file
by HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

IPXE_PATH: Final = "ipxe/x86_64/ipxe.new"


@dataclass(frozen=True)
class Boot:
    """Where a guest boots from. `filename` is as the interface's owner wrote it."""

    server: IPv4Address | IPv6Address
    filename: str

    @property
    def file4(self) -> str:
        """The second stage for DHCPv4; no slash is put in, the file name begins with one."""
        return f"http://{self.server}{self.filename}"

    @property
    def first_url6(self) -> str:
        """The first stage for DHCPv6."""
        return f"tftp://[{self.server}]/{IPXE_PATH}"

    @property
    def second_url6(self) -> str:
        """The second stage for DHCPv6; here a slash is put in."""
        return f"http://[{self.server}]/{self.filename}"


def boot_of(next_server: str, filename: str) -> Boot | None:
    """None when the interface has no server to boot from. Raises ValueError for what is no address."""
    return Boot(ip_address(next_server), filename) if next_server else None
