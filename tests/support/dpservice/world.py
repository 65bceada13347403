"""Questions to the API's state, answered by plain search over the model's rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from services.dpservice.model.changes import Rows
from services.dpservice.model.keys import (
    BalancerKey,
    FirewallKey,
    FunctionKey,
    InterfaceKey,
    NatKey,
    NeighborKey,
    RouteKey,
    VipKey,
)
from services.dpservice.model.rows import (
    ANY,
    Balancer,
    Direction,
    FirewallRule,
    Function,
    FunctionKind,
    Hop,
    IcmpFilter,
    Interface,
    IPAddress,
    LocalHop,
    NatSlice,
    Neighbor,
    PortFilter,
    PortNumber,
    RemoteHop,
    Vip,
    Vni,
)
from services.dpservice.model.underlay import UnderlayAddress
from tests.support.dpservice.wire import ICMP, ICMPV6, Endpoints, Packet

NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Link:
    """An uplink or a guest's device as the data plane was told of it."""

    ifindex: int
    mac: bytes
    router: bytes = b""
    usable: bool = True


@dataclass
class World:
    """A host: its rows, devices and settings. `percent`: the first uplink's share of the flows."""

    host: IPv6Address
    uplinks: list[Link]
    guests: dict[PortNumber, Link]
    trusted: list[IPv6Network]
    percent: int = 100
    mtu: int = 1500
    rows: Rows = field(default_factory=dict)

    def interface(self, port: PortNumber) -> Interface | None:
        found = (row for row in self.rows.values() if isinstance(row, Interface) and row.port == port)
        return next(found, None)

    def vip(self, interface: Interface) -> Vip | None:
        row = self.rows.get(VipKey(interface.id))
        return row if isinstance(row, Vip) else None

    def nat(self, interface: Interface) -> NatSlice | None:
        row = self.rows.get(NatKey(interface.id))
        return row if isinstance(row, NatSlice) else None

    def is_translated(self, interface: Interface, ends: Endpoints) -> bool:
        """Does a conversation by the default route get a public address?"""
        if isinstance(ends.destination, IPv6Address):
            return self.nat(interface) is not None and ends.destination in NAT64
        return ends.source == interface.ipv4 and bool(self.vip(interface) or self.nat(interface))

    def function(self, underlay: IPv6Address) -> Function | None:
        row = self.rows.get(FunctionKey(UnderlayAddress(underlay)))
        return row if isinstance(row, Function) else None

    def route(self, vni: Vni, destination: IPAddress) -> tuple[Hop, int] | None:
        """The hop of the longest prefix that matches, and that prefix's length."""
        best: tuple[Hop, int] | None = None
        for key, row in self.rows.items():
            if not isinstance(key, RouteKey) or key.vni != vni or not isinstance(row, LocalHop | RemoteHop):
                continue
            if destination in key.prefix and (best is None or key.prefix.prefixlen > best[1]):
                best = row, key.prefix.prefixlen
        return best

    def vip_owner(self, vni: Vni, address: IPAddress) -> Interface | None:
        """Whose VIP a public address is."""
        for key, row in self.rows.items():
            if isinstance(key, VipKey) and isinstance(row, Vip) and row.address == address:
                owner = self.rows.get(InterfaceKey(key.interface_id))
                if isinstance(owner, Interface) and owner.vni == vni:
                    return owner
        return None

    def is_shared(self, vni: Vni, address: IPAddress) -> bool:
        """Is a public address one of NAT in this VNI, on this host or a neighbor?"""
        for key, row in self.rows.items():
            if isinstance(key, NeighborKey) and key.vni == vni and key.address == address:
                return True
            if isinstance(key, NatKey) and isinstance(row, NatSlice) and row.address == address:
                owner = self.rows.get(InterfaceKey(key.interface_id))
                if isinstance(owner, Interface) and owner.vni == vni:
                    return True
        return False

    def neighbor(self, vni: Vni, address: IPAddress, port: int) -> IPv6Address | None:
        """The host that owns a port of a shared address."""
        for key, row in self.rows.items():
            if not isinstance(key, NeighborKey) or not isinstance(row, Neighbor):
                continue
            if (key.vni, key.address) == (vni, address) and key.min_port <= port < key.max_port:
                return row.underlay
        return None

    def balancer(self, vni: Vni, address: IPAddress) -> Balancer | None:
        row = self.rows.get(BalancerKey(vni, address))
        return row if isinstance(row, Balancer) else None

    def balanced_prefix(self, port: PortNumber, address: IPAddress, *, exact: bool = False) -> bool:
        """Is an address in a balancer prefix of a port? `exact`: in one that holds it alone."""
        for row in self.rows.values():
            if not isinstance(row, Function) or row.kind != FunctionKind.BALANCER_PREFIX or row.port != port:
                continue
            if row.prefix and address in row.prefix and (not exact or row.prefix.num_addresses == 1):
                return True
        return False

    def may_send_from(self, interface: Interface, source: IPAddress) -> bool:
        """A guest sends from its own addresses, from what is routed to it, and from its balancer prefixes."""
        if source in (interface.ipv4, interface.ipv6) or self.balanced_prefix(interface.port, source):
            return True
        found = self.route(interface.vni, source)
        return found is not None and found[0] == LocalHop(interface.port)

    def accepts(self, interface: Interface, direction: Direction, packet: Packet) -> bool:
        """The firewall's word on a conversation's first packet, with private addresses on this side."""
        rules = [
            row
            for key, row in self.rows.items()
            if isinstance(key, FirewallKey)
            and key.interface_id == interface.id
            and isinstance(row, FirewallRule)
            and row.direction == direction
        ]
        for rule in sorted(rules, key=lambda rule: (rule.priority, rule.order)):
            if _matches(rule, packet):
                return rule.accept
        return not rules

    def discriminator(self, interface: Interface, packet_source: IPAddress, destination: IPAddress) -> FunctionKind:
        """What keeps a guest's flows of its NAT address and of a balanced prefix apart."""
        if isinstance(packet_source, IPv4Address):
            if self.nat(interface):
                return FunctionKind.NAT
            if self.balanced_prefix(interface.port, packet_source, exact=True):
                return FunctionKind.BALANCER_PREFIX
            return FunctionKind.UNDEFINED
        return FunctionKind.NAT if destination in NAT64 and self.nat(interface) else FunctionKind.UNDEFINED


def _matches(rule: FirewallRule, packet: Packet) -> bool:
    ends = packet.ends
    if ends.source not in rule.source.network or ends.destination not in rule.destination.network:
        return False
    wanted = rule.filter
    if wanted is None:
        return True
    if isinstance(wanted, IcmpFilter):
        if packet.protocol not in (ICMP, ICMPV6):
            return False
        return wanted.type in (ANY, packet.body[0]) and wanted.code in (ANY, packet.body[1])
    return packet.protocol == wanted.protocol and _ports_match(wanted, packet)


def _ports_match(wanted: PortFilter, packet: Packet) -> bool:
    ranges = (
        (wanted.source_low, wanted.source_high, packet.ends.source_port),
        (wanted.destination_low, wanted.destination_high, packet.ends.destination_port),
    )
    return all(low == ANY or low <= port <= high for low, high, port in ranges)
