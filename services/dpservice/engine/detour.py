"""The detour of large packets towards TAPs (bpf/detour.h): a device, and a route that ends tunnels there.

A TAP takes no GSO packet that bears the state of a tunnel; the kernel would cut it in software and write each segment.
The kernel's own action End.DX2 of segment routing (RFC 8986, since Linux 4.10) takes that state off.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

NAME: Final = "dpdetour"
PEER: Final = "dpdetour-peer"  # of no use: the other end of a veth has to be somewhere
MTU: Final = 65535
IPV6_IS_OFF: Final = Path(f"/proc/sys/net/ipv6/conf/{NAME}/disable_ipv6")
MAC: Final = bytes.fromhex("02fed0440001")
SID: Final = "5f00:d0fe::1/128"  # as in detour.h


@dataclass(frozen=True)
class Detour:
    """The device, with its own MAC."""

    ifindex: int
    mac: bytes = MAC


def make_detour() -> Detour:
    """Device and route, which may be there already. Raises OSError, also if the kernel has no such action."""
    try:
        with IPRoute() as netlink:
            if not netlink.link_lookup(ifname=NAME):
                netlink.link("add", ifname=NAME, kind="veth", address=MAC.hex(":"), peer={"ifname": PEER})
            netlink.link("set", index=socket.if_nametoindex(PEER), state="up")
            ifindex = socket.if_nametoindex(NAME)
            netlink.link("set", index=ifindex, mtu=MTU, state="up")
            ends = {"type": "seg6local", "action": "End.DX2", "oif": ifindex}
            if IPV6_IS_OFF.read_text() != "0\n":
                raise OSError(errno.EAFNOSUPPORT, f"IPv6 is off at {NAME} ({IPV6_IS_OFF})")
            netlink.route("replace", dst=SID, oif=ifindex, encap=ends)
    except NetlinkError as error:
        raise OSError(error.code, f"tunnels can't end at {NAME}: {error}") from error
    return Detour(ifindex)
