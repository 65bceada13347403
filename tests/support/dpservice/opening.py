"""The first packet of a conversation: what it may do, and what both directions will do from then on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from services.dpservice.model.hashing import FlowKey
from services.dpservice.model.maglev import slot_of, table
from services.dpservice.model.rows import (
    Direction,
    Function,
    FunctionKind,
    Interface,
    IPAddress,
    LocalHop,
    PortNumber,
    Vni,
)
from tests.support.dpservice.flows import GUEST, NAT, TUNNEL, VIP, Entry, Flows, Mapping, Side, Way, key_between
from tests.support.dpservice.translate import TYPES, embedded
from tests.support.dpservice.wire import ECHO_REQUESTS, ICMP, ICMPV6, Endpoints, Packet, rewritten
from tests.support.dpservice.world import NAT64, World

OPPOSITE: Final = {(ICMP, 8): 0, (ICMP, 0): 8, (ICMPV6, 128): 129, (ICMPV6, 129): 128}


class Lost(Exception):
    """The packet is dropped; the text is the reason's name."""


@dataclass(frozen=True)
class Opening:
    """A conversation to be: this direction, and where the other one will be found. `echo`: answered at once."""

    entry: Entry
    reply_key: FlowKey | None = None
    reply: Entry | None = None
    echo: bool = False


@dataclass
class Openings:
    """Decides; `remember` is for the caller, once the packet was not dropped."""

    world: World
    flows: Flows

    def remember(self, key: FlowKey, side: Side, opening: Opening) -> None:
        if opening.reply_key and opening.reply and opening.entry.answers:
            self.flows.keep(opening.reply_key, opening.entry.answers, replace(opening.reply, answers=side))
        self.flows.keep(key, side, opening.entry)

    def from_guest(self, interface: Interface, packet: Packet, *, continued: bool = False) -> Opening:
        """A guest begins; or it goes on towards an end that moved, where who has it now has to accept. Raises Lost."""
        if packet.is_error:
            raise Lost("ICMP_ERROR")
        public = self._public(interface.vni, packet)
        if isinstance(public, Opening):
            return public
        seen = rewritten(packet, replace(packet.ends, destination=public)) if public else packet
        found = self.world.route(interface.vni, seen.ends.destination)
        if found is None:
            raise Lost("NO_ROUTE")
        if not continued:
            self._check(interface, Direction.EGRESS, seen)
        if isinstance(found[0], LocalHop):
            target = self._owner(found[0].port)
            self._check(target, Direction.INGRESS, seen)
            return self._to_guest(interface.vni, interface.port, target, packet, seen)
        if found[1] == 0 and public is None:
            return self._to_internet(interface, packet)
        return self._to_fabric(interface, packet, seen.ends, seen.ends.destination)

    def from_tunnel(self, function: Function, key: FlowKey, packet: Packet) -> Opening:
        """The fabric begins. Raises Lost."""
        vni, destination = function.vni, packet.ends.destination
        if function.kind in (FunctionKind.INTERFACE, FunctionKind.ALIAS_PREFIX, FunctionKind.BALANCER_PREFIX):
            if packet.is_error:
                raise Lost("ICMP_ERROR")
            return self._checked(vni, self._owner(function.port), packet, packet, Way.PORT)
        if function.kind == FunctionKind.BALANCER:
            return self._to_target(function, key, packet)
        public = self._public(vni, packet)
        if isinstance(public, Opening):
            return public
        if packet.is_error:
            raise Lost("ICMP_ERROR")
        seen = rewritten(packet, replace(packet.ends, destination=public)) if public else packet
        found = self.world.route(vni, public or destination)
        if found is None:
            raise Lost("NO_ROUTE")
        if not isinstance(found[0], LocalHop):
            raise Lost("NO_TRANSIT")
        return self._checked(vni, self._owner(found[0].port), packet, seen, Way.ROUTE)

    def _checked(self, vni: Vni, target: Interface, packet: Packet, seen: Packet, way: Way) -> Opening:
        self._check(target, Direction.INGRESS, seen)
        return self._to_guest(vni, target.port, target, packet, seen, way)

    def _public(self, vni: Vni, packet: Packet) -> IPAddress | Opening | None:
        """What a public destination stands for: a guest's address, an opening of its own, or nothing. Raises Lost."""
        destination = packet.ends.destination
        if not isinstance(destination, IPv4Address):
            return None
        owner = self.world.vip_owner(vni, destination)
        if owner is not None:
            return owner.ipv4
        if not self.world.is_shared(vni, destination):
            return None
        entry = Entry(next(self.flows.numbers), None, Way.RELAY, packet.ends, destination, None)
        if packet.icmp in ECHO_REQUESTS:
            return Opening(entry, echo=True)
        port = packet.quoted.ends.source_port if packet.is_error else packet.ends.destination_port
        underlay = self.world.neighbor(vni, destination, port)
        if underlay is None:
            raise Lost("NAT_NO_OWNER")
        return Opening(replace(entry, underlay=underlay))

    def _check(self, interface: Interface, direction: Direction, packet: Packet) -> None:
        if not self.world.accepts(interface, direction, packet):
            raise Lost("FIREWALL")

    def _owner(self, port: PortNumber) -> Interface:
        owner = self.world.interface(port)
        if owner is None:
            raise Lost("NO_DEVICE")
        return owner

    def _to_guest(
        self,
        vni: Vni,
        owner: PortNumber,
        target: Interface,
        packet: Packet,
        seen: Packet,
        way: Way = Way.ROUTE,
    ) -> Opening:
        """To a guest of this host, whose answers come from the destination that was asked for."""
        number = next(self.flows.numbers)
        vip = target.port if seen.ends.destination != packet.ends.destination else None
        answers = Side(GUEST, target.port)
        entry = Entry(number, answers, way, seen.ends, seen.ends.destination, owner, target.port, vip=vip)
        back = seen.ends.turned()
        reply_key = key_between(vni, back, packet.protocol, OPPOSITE.get(packet.icmp, 0))
        back_ends = packet.ends.turned()
        reply = Entry(number, None, Way.ROUTE, back_ends, back_ends.destination, owner, original=False)
        return Opening(entry, reply_key, reply)

    def _to_internet(self, interface: Interface, packet: Packet) -> Opening:
        """By the default route: an interface's own address becomes its VIP, or rather its NAT address if it has one."""
        vip, nat, ends = self.world.vip(interface), self.world.nat(interface), packet.ends
        if isinstance(ends.destination, IPv6Address):
            if nat is None or ends.destination not in NAT64:
                return self._to_fabric(interface, packet, ends, ends.destination)
            if packet.protocol == ICMPV6 and packet.icmp not in OPPOSITE:
                raise Lost("NAT64")
        elif ends.source != interface.ipv4 or not (vip or nat):
            return self._to_fabric(interface, packet, ends, ends.destination)
        if nat is None:
            assert vip
            return self._to_fabric(interface, packet, replace(ends, source=vip.address), ends.destination)
        destination = ends.destination if isinstance(ends.destination, IPv4Address) else embedded(ends.destination)
        mapping = self.flows.public_port(nat, interface.vni, packet, destination)
        if mapping is None:
            raise Lost("NAT_PORTS")
        is_icmp = packet.protocol in (ICMP, ICMPV6)
        outside = Endpoints(
            nat.address,
            mapping.public_port,
            destination,
            mapping.public_port if is_icmp else ends.destination_port,
        )
        return self._to_fabric(interface, packet, outside, ends.destination, mapping)

    def _to_fabric(
        self,
        interface: Interface,
        packet: Packet,
        outside: Endpoints,
        toward: IPAddress,
        mapping: Mapping | None = None,
    ) -> Opening:
        number, protocol, icmp = next(self.flows.numbers), packet.protocol, packet.icmp
        if outside.source.version != packet.version and protocol == ICMPV6:
            protocol, icmp = ICMP, (ICMP, TYPES[icmp])
        answers, vip = Side(TUNNEL, interface.port), None
        if mapping:
            answers = Side(NAT)
        elif outside.source != packet.ends.source:
            answers, vip = Side(VIP), interface.port
        port = interface.port
        entry = Entry(number, answers, Way.ROUTE, outside, toward, port, mapping=mapping, vip=vip)
        reply_key = key_between(interface.vni, outside.turned(), protocol, OPPOSITE.get(icmp, 0))
        reply = Entry(
            number, None, Way.PORT, packet.ends.turned(), packet.ends.source, port, port, vip=vip, original=False
        )
        return Opening(entry, reply_key, reply)

    def _to_target(self, function: Function, key: FlowKey, packet: Packet) -> Opening:
        """To a target of the balancer that the function is for; another one's address won't do. Raises Lost."""
        balancer = self.world.balancer(function.vni, packet.ends.destination)
        if balancer is None or balancer.number != function.balancer:
            raise Lost("BALANCER")
        entry = Entry(next(self.flows.numbers), None, Way.BALANCE, packet.ends, packet.ends.destination, None)
        if packet.icmp in ECHO_REQUESTS:
            return Opening(entry, echo=True)
        if (key.destination_port, key.protocol) not in balancer.ports:
            raise Lost("BALANCER")
        targets = sorted(balancer.targets)
        if not targets:
            raise Lost("BALANCER_NO_TARGET")
        return Opening(replace(entry, underlay=targets[table(targets)[slot_of(key.hash())]]))
