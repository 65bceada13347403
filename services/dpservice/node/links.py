"""What the kernel says of network devices and routers: pure functions over netlink dumps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any, Final

from services.dpservice.engine.interface import Delivery, GuestLink

NUD_FAILED: Final = 0x20  # linux/neighbour.h
NUD_USABLE: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent
NTF_ROUTER: Final = 0x80


@dataclass(frozen=True)
class Link:
    """A network device."""

    ifindex: int
    name: str
    mac: bytes
    kind: str
    carrier: bool
    is_up: bool
    mtu: int
    peer_elsewhere: bool  # a veth whose peer is in another namespace

    def as_guest(self) -> GuestLink:
        """How frames get into the guest behind it."""
        peer = self.kind == "veth" and self.peer_elsewhere
        return GuestLink(self.ifindex, self.mac, Delivery.PEER if peer else Delivery.REDIRECT)


@dataclass(frozen=True)
class Neighbor:
    """An entry of the kernel's IPv6 neighbour table; `mac` is empty while it is unresolved."""

    ifindex: int
    address: IPv6Address
    mac: bytes
    state: int
    is_router: bool


@dataclass(frozen=True)
class Gateway:
    """The next hop of an IPv6 route."""

    ifindex: int
    address: IPv6Address


def read_links(dump: Iterable[Any]) -> dict[str, Link]:
    """Devices by name."""
    links: dict[str, Link] = {}
    for message in dump:
        info = message.get_attr("IFLA_LINKINFO")
        name = message.get_attr("IFLA_IFNAME")
        links[name] = Link(
            ifindex=message["index"],
            name=name,
            mac=_mac(message.get_attr("IFLA_ADDRESS")),
            kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
            carrier=bool(message.get_attr("IFLA_CARRIER")),
            is_up=bool(message["flags"] & 1),
            mtu=message.get_attr("IFLA_MTU") or 0,
            peer_elsewhere=message.get_attr("IFLA_LINK_NETNSID") is not None,
        )
    return links


def read_neighbors(dump: Iterable[Any]) -> list[Neighbor]:
    """The IPv6 neighbour table."""
    return [
        Neighbor(
            ifindex=message["ifindex"],
            address=IPv6Address(message.get_attr("NDA_DST")),
            mac=_mac(message.get_attr("NDA_LLADDR")),
            state=message["state"],
            is_router=bool(message["flags"] & NTF_ROUTER),
        )
        for message in dump
        if message.get_attr("NDA_DST")
    ]


def read_gateways(dump: Iterable[Any]) -> list[Gateway]:
    """The next hops of IPv6 routes, multipath included."""
    found: list[Gateway] = []
    for message in dump:
        hops: list[Any] = message.get_attr("RTA_MULTIPATH") or [message]
        for hop in hops:
            gateway = hop.get_attr("RTA_GATEWAY")
            ifindex = hop.get_attr("RTA_OIF") if hop is message else hop["oif"]
            if gateway and ifindex:
                found.append(Gateway(ifindex, IPv6Address(gateway)))
    return found


def router_of(
    ifindex: int, neighbors: Iterable[Neighbor], gateways: Iterable[Gateway], known: Mapping[int, bytes]
) -> bytes:
    """The MAC of the router on an uplink, or nothing.

    A neighbour that said it is a router comes first, then one that routes lead through. When the kernel merely forgot
    the neighbour, what is known of it stays good; when it failed to answer, it does not.
    """
    ways = {gateway.address for gateway in gateways if gateway.ifindex == ifindex}
    candidates = [
        neighbor
        for neighbor in neighbors
        if neighbor.ifindex == ifindex and (neighbor.is_router or neighbor.address in ways)
    ]
    usable = [neighbor for neighbor in candidates if neighbor.state & NUD_USABLE and neighbor.mac]
    if usable:
        return min(usable, key=lambda neighbor: (not neighbor.is_router, neighbor.address)).mac
    if any(neighbor.state & NUD_FAILED for neighbor in candidates):
        return b""
    return known.get(ifindex, b"")


def _mac(text: str | None) -> bytes:
    return bytes.fromhex(text.replace(":", "")) if text else b""
