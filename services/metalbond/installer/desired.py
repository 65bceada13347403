"""Which hops each prefix of each kernel table should have. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import NamedTuple

from services.metalbond.client import Change, RouteChange
from services.metalbond.routes import Destination, Vni

Hops = tuple[IPv6Address, ...]
"""Underlay addresses, ascending."""


class Prefix(NamedTuple):
    """A destination in a kernel table."""

    table: int
    destination: Destination


class Desired:
    """`tables` maps VNIs to kernel tables; of other VNIs nothing is wanted. Two VNIs may share a table: their hops for
    a destination count as one.

    The type of a next hop, its ports and its VNI mean nothing to the kernel: hops that differ only in these are one.
    """

    def __init__(self, tables: Mapping[Vni, int], *, ipv4_only: bool) -> None:
        self._tables, self._ipv4_only = tables, ipv4_only
        self._hops: dict[Prefix, Counter[IPv6Address]] = {}

    @property
    def prefixes(self) -> set[Prefix]:
        """All that should have hops."""
        return set(self._hops)

    def hops(self, prefix: Prefix) -> Hops:
        """The prefix's; none when it should not be there."""
        return tuple(sorted(self._hops.get(prefix, ())))

    def apply(self, change: RouteChange) -> Prefix | None:
        """The prefix that is to be looked at again; None when the change does not concern the kernel."""
        route = change.route
        table, hop = self._tables.get(route.vni), route.next_hop.address
        if table is None or not isinstance(hop, IPv6Address) or (self._ipv4_only and route.destination.version == 6):
            return None
        prefix = Prefix(table, route.destination)
        hops = self._hops.setdefault(prefix, Counter())
        hops[hop] += 1 if change.kind is Change.ADDED else -1
        if hops[hop] <= 0:
            del hops[hop]
        if not hops:
            del self._hops[prefix]
        return prefix
