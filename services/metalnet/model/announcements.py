"""Which routes tell the other hosts where an interface is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.metalnet.model.overlay import Port, Prefix, UnderlayAddress, Vni, host_prefix


@dataclass(frozen=True)
class Announcement:
    """In network `vni`, packets for `destination` go to `next_hop`."""

    vni: Vni
    destination: Prefix
    next_hop: UnderlayAddress


def announcements(port: Port, prefixes: Mapping[Prefix, UnderlayAddress], public_vni: Vni) -> frozenset[Announcement]:
    """The routes of an interface and of its further prefixes, each of which has an underlay address of its own.

    An IPv6 address is announced to the public network too: there is no NAT for it, so edge routers must find it.
    """
    found = {Announcement(port.vni, prefix, underlay) for prefix, underlay in prefixes.items()}
    if port.ipv4 is not None:
        found.add(Announcement(port.vni, host_prefix(port.ipv4), port.underlay))
    if port.ipv6 is not None:
        found.add(Announcement(port.vni, host_prefix(port.ipv6), port.underlay))
        found.add(Announcement(public_vni, host_prefix(port.ipv6), port.underlay))
    return frozenset(found)
