"""Guest devices by the beginning of their netdevs' names, as `--vf-pattern` gives it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyroute2 import IPRoute

_FUNCTION: Final = re.compile(r"(?:c(?P<controller>\d+))?pf(?P<pf>\d+)vf(?P<vf>\d+)")
"""What mlx5 answers as a representor's port name; the controller is there if it is not the host's own."""


@dataclass(frozen=True)
class Netdev:
    """A netdev, and where it comes from if the kernel says: port of a switching NIC, address of that NIC."""

    name: str
    port: str = ""
    parent: str = ""


def guest_devices(netdevs: Iterable[Netdev], pattern: str, *, multiport: bool) -> dict[str, str]:
    """Device names in the API to netdevs whose names begin with `pattern`, in their natural order.

    A representor has DPDK's name, 0000:3b:00.0_representor_vf3, or ..._representor_c0pf1vf3 where one NIC address
    stands for several ports. Anything else goes by its netdev's name.
    """
    matching = sorted((netdev for netdev in netdevs if netdev.name.startswith(pattern)), key=_natural)
    return {_device(netdev, multiport): netdev.name for netdev in matching}


def netdevs() -> list[Netdev]:
    """The netdevs of this network namespace. Raises OSError."""
    with IPRoute() as netlink:
        return [
            Netdev(
                link.get_attr("IFLA_IFNAME"),
                link.get_attr("IFLA_PHYS_PORT_NAME") or "",
                link.get_attr("IFLA_PARENT_DEV_NAME") or "",
            )
            for link in netlink.link("dump")
        ]


def _device(netdev: Netdev, multiport: bool) -> str:
    found = _FUNCTION.fullmatch(netdev.port)
    if not found or not netdev.parent:
        return netdev.name
    if multiport or found["pf"] != "0":
        return f"{netdev.parent}_representor_c{found['controller'] or 0}pf{found['pf']}vf{found['vf']}"
    return f"{netdev.parent}_representor_vf{found['vf']}"


def _natural(netdev: Netdev) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", netdev.name)]
