"""Conversations that a host remembers, and the public ports that they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from itertools import count

from services.dpservice.model.hashing import FlowKey, nat_mapping_key, nat_ports
from services.dpservice.model.rows import Function, FunctionKind, IPAddress, NatSlice, PortNumber, Vni
from tests.support.dpservice.wire import ICMP, ICMPV6, TCP, UDP, Endpoints, Packet


class Way(Enum):
    """How a conversation's packets leave in one direction."""

    ROUTE = "by the routes of the VNI"
    PORT = "to the port that the outer destination names"
    RELAY = "to another host, by the uplink they came in on"
    BALANCE = "to a balancer's target"


@dataclass(frozen=True)
class Mapping:
    """A public port in use: by whom, and towards whom."""

    vni: Vni
    source: IPAddress
    source_port: int
    public: IPv4Address
    public_port: int
    destination: IPAddress
    destination_port: int
    protocol: int


@dataclass(frozen=True)
class Side:
    """Where packets come in: from a guest, or by a kind of underlay address; VIPs, NAT and balancers have no port."""

    kind: str
    port: PortNumber | None = None


GUEST, TUNNEL, VIP, NAT, BALANCER = "guest", "tunnel", "VIP", "NAT", "balancer"
_OF_FUNCTION = {FunctionKind.VIP: VIP, FunctionKind.NAT: NAT, FunctionKind.BALANCER: BALANCER}


def side_of(function: Function) -> Side:
    """Where packets for an underlay address come in."""
    kind = _OF_FUNCTION.get(function.kind)
    return Side(kind) if kind else Side(TUNNEL, function.port)


@dataclass(frozen=True)
class Entry:
    """One direction. `answers`: where the other one comes in. `ends`: after rewriting.

    `toward`: the address that is routed; `owner`: the port whose conversation this is; `vip`: that of a VIP in it.
    `admitted`: the guest of this host that lets in answers of a conversation which somebody else began.
    """

    conversation: int
    answers: Side | None
    way: Way
    ends: Endpoints
    toward: IPAddress
    owner: PortNumber | None
    port: PortNumber | None = None
    underlay: IPv6Address | None = None
    mapping: Mapping | None = None
    vip: PortNumber | None = None
    admitted: PortNumber | None = None
    original: bool = True


@dataclass
class Flows:
    """Both directions of every conversation, found by their keys (without discriminator) and where they come in."""

    entries: dict[tuple[FlowKey, Side], Entry] = field(default_factory=dict)
    users: dict[tuple[Vni, IPAddress, int], int] = field(default_factory=dict)
    ports: dict[tuple[Vni, IPAddress, int], int] = field(default_factory=dict)
    taken: set[tuple[IPv4Address, int, IPAddress, int, int]] = field(default_factory=set)
    numbers: count[int] = field(default_factory=count)

    def find(self, key: FlowKey, side: Side) -> Entry | None:
        return self.entries.get((_plain(key), side))

    def keep(self, key: FlowKey, side: Side, entry: Entry) -> None:
        """A direction replaces the whole conversation that had its place."""
        place = _plain(key), side
        if place in self.entries:
            self.end(self.entries[place].conversation)
        self.entries[place] = entry
        if entry.mapping:
            self._hold(entry.mapping)

    def admit(self, key: FlowKey, side: Side, port: PortNumber | None) -> None:
        """Notes who lets answers in."""
        place = _plain(key), side
        self.entries[place] = replace(self.entries[place], admitted=port)

    def forget(self, chosen: Callable[[FlowKey, Side, Entry], bool]) -> None:
        """Ends conversations of which one direction is chosen."""
        for conversation in {entry.conversation for place, entry in self.entries.items() if chosen(*place, entry)}:
            self.end(conversation)

    def end(self, conversation: int) -> None:
        for place, entry in list(self.entries.items()):
            if entry.conversation == conversation:
                del self.entries[place]
                if entry.mapping:
                    self._release(entry.mapping)

    def public_port(self, nat: NatSlice, vni: Vni, packet: Packet, destination: IPAddress) -> Mapping | None:
        """A port of the slice for a new conversation. None: all are taken, or the endpoint's own is."""
        ends = packet.ends
        endpoint = (vni, ends.source, ends.source_port)
        known = self.ports.get(endpoint)
        key = nat_mapping_key(*endpoint)
        for port in nat_ports(key, nat.min_port, nat.max_port) if known is None else [known]:
            mapping = Mapping(*endpoint, nat.address, port, destination, ends.destination_port, packet.protocol)
            if _held(mapping) not in self.taken:
                return mapping
        return None

    def _hold(self, mapping: Mapping) -> None:
        endpoint = (mapping.vni, mapping.source, mapping.source_port)
        self.ports[endpoint] = mapping.public_port
        self.users[endpoint] = self.users.get(endpoint, 0) + 1
        self.taken.add(_held(mapping))

    def _release(self, mapping: Mapping) -> None:
        endpoint = (mapping.vni, mapping.source, mapping.source_port)
        self.taken.discard(_held(mapping))
        self.users[endpoint] -= 1
        if not self.users[endpoint]:
            del self.users[endpoint], self.ports[endpoint]


def _plain(key: FlowKey) -> FlowKey:
    return replace(key, discriminator=FunctionKind.UNDEFINED)


def _held(mapping: Mapping) -> tuple[IPv4Address, int, IPAddress, int, int]:
    return (mapping.public, mapping.public_port, mapping.destination, mapping.destination_port, mapping.protocol)


def key_of(vni: Vni, packet: Packet, kind: FunctionKind) -> FlowKey:
    """The key of a packet's direction; an error belongs to the direction opposite to what it quotes."""
    if packet.is_error:
        return replace(key_of(vni, packet.quoted, kind).reply(), discriminator=kind)
    ends = packet.ends
    return key_between(vni, ends, packet.protocol, packet.icmp[1], kind)


def key_between(
    vni: Vni, ends: Endpoints, protocol: int, icmp_type: int, kind: FunctionKind = FunctionKind.UNDEFINED
) -> FlowKey:
    """The key of a direction between endpoints."""
    source_port = ends.source_port if protocol in (TCP, UDP) else icmp_type
    assert protocol in (TCP, UDP, ICMP, ICMPV6)
    return FlowKey(vni, protocol, ends.source, source_port, ends.destination, ends.destination_port, kind)
