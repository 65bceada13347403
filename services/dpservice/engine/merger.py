"""A detour for large tunnel packets towards TAPs: a veth pair on which they are cut, unwrapped and merged again.

A TAP takes no GSO packet that bears the state of a tunnel; the kernel would cut it in software and write each segment.
Here the segments lose their outer header in the driver (XDP) before the kernel merges them (GRO), so that the guest
gets a large packet after all, and small packets of the uplink, which need nothing of this, are not slowed down.
"""

from __future__ import annotations

import socket
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

IN: Final = "dpmerge0"
OUT: Final = "dpmerge1"
MTU: Final = 3000  # more than segments have, less than a page: native XDP's limit for a veth without fragments


def make_merger() -> tuple[int, int]:
    """The ifindexes of the two ends, which may be there already. Raises OSError."""
    try:
        with IPRoute() as netlink:
            if not netlink.link_lookup(ifname=IN):
                netlink.link("add", ifname=IN, kind="veth", peer={"ifname": OUT})
            for name in (IN, OUT):
                netlink.link("set", index=socket.if_nametoindex(name), mtu=MTU, state="up")
    except NetlinkError as error:
        raise OSError(error.code, f"veth pair {IN}: {error}") from error
    return socket.if_nametoindex(IN), socket.if_nametoindex(OUT)
