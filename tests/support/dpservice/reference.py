"""The pipeline: what the API's state and the packets before make of a packet."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from services.dpservice.model.flushes import (
    NatOfPort,
    NeighborRange,
    OfPort,
    OriginalDestination,
    Selector,
    Target,
    Untranslated,
    VipOfPort,
)
from services.dpservice.model.hashing import FlowKey, first_uplink_slots, uplink_slot
from services.dpservice.model.rows import (
    Direction,
    Function,
    FunctionKind,
    Interface,
    IPAddress,
    LocalHop,
    PortNumber,
    RemoteHop,
    Vni,
)
from tests.support.dpservice.fates import Delivered, Dropped, Fate, Passed, Tunnelled, dropped
from tests.support.dpservice.flows import GUEST, TUNNEL, Entry, Flows, Side, Way, key_of, side_of
from tests.support.dpservice.opening import Lost, Openings
from tests.support.dpservice.translate import to_ipv4, to_ipv6
from tests.support.dpservice.wire import (
    ECHO_REQUESTS,
    UDP,
    Malformed,
    Packet,
    read_packet,
    rewritten,
    with_quote,
)
from tests.support.dpservice.world import NAT64, World

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
ETHERNET: Final = 14
OUTER: Final = 40
HOP_LIMIT: Final = 64
GUEST_SERVICES: Final = (67, 547)
LINK_LOCAL4: Final = 0xA9FE
LOCAL_TARGETS: Final = (FunctionKind.INTERFACE, FunctionKind.ALIAS_PREFIX, FunctionKind.BALANCER_PREFIX)


@dataclass(frozen=True)
class Arrival:
    """By which uplink a packet came, and how many hosts may still pass it on."""

    uplink: int
    hop_limit: int


@dataclass
class Reference:
    """A host's data plane. Guests' MACs are learned from the first frame that each sends; a port's next guest may show
    another, and gets packets by its predecessor's until then."""

    world: World
    flows: Flows = field(default_factory=Flows)
    macs: dict[PortNumber, bytes] = field(default_factory=dict)
    unseen: set[PortNumber] = field(default_factory=set)
    public: set[int] = field(default_factory=set)  # conversations whose guest's last packet went by a default route

    def __post_init__(self) -> None:
        self.openings = Openings(self.world, self.flows)

    def follow(self, selectors: Iterable[Selector]) -> None:
        """Forgets conversations that went with a call."""
        for selector in selectors:
            is_meant = self._is_untranslated if isinstance(selector, Untranslated) else _is_meant
            self.flows.forget(partial(is_meant, selector))
            if isinstance(selector, OfPort):
                self.unseen.add(selector.port)

    def from_guest(self, port: PortNumber, frame: bytes) -> Fate:
        """A frame that a guest sent."""
        interface = self.world.interface(port)
        if interface is None:
            return dropped("NO_INTERFACE")
        try:
            return self._from_guest(interface, frame)
        except (Lost, Malformed) as error:
            return _lost(error)

    def from_uplink(self, uplink: int, frame: bytes) -> Fate:
        """A frame from the fabric."""
        if frame[12:14] != struct.pack("!H", IPV6) or len(frame) < ETHERNET + OUTER + 1 or frame[20] not in (4, 41):
            return Passed()
        source, destination = IPv6Address(frame[22:38]), IPv6Address(frame[38:54])
        if destination.packed[:8] != self.world.host.packed[:8]:
            return Passed()
        function = self.world.function(destination)
        if function is None:
            return dropped("UNKNOWN_UNDERLAY") if destination.packed[8] & 0xF0 == 0xD0 else Passed()
        if not any(source in prefix for prefix in self.world.trusted):
            return dropped("UNTRUSTED_SOURCE")
        inner = frame[ETHERNET + OUTER : ETHERNET + OUTER + int.from_bytes(frame[18:20], "big")]
        try:
            if not inner or inner[0] >> 4 != (4 if frame[20] == 4 else 6):
                return dropped("MALFORMED")
            return self._from_tunnel(function, destination, source, Arrival(uplink, frame[21]), read_packet(inner))
        except (Lost, Malformed) as error:
            return _lost(error)

    def _from_guest(self, interface: Interface, frame: bytes) -> Fate:
        kind = int.from_bytes(frame[12:14], "big")
        if kind not in (IPV4, IPV6) or not frame[ETHERNET:] or frame[ETHERNET] >> 4 != (4 if kind == IPV4 else 6):
            raise Malformed("no IP")
        packet = read_packet(frame[ETHERNET:])
        self._check_source(interface, frame, packet)
        if not _is_unicast(packet.ends.destination):
            raise Lost("NOT_UNICAST")
        kind_of_flow = self.world.discriminator(interface, packet.ends.source, packet.ends.destination)
        key = key_of(interface.vni, packet, kind_of_flow)
        side = Side(GUEST, interface.port)
        entry = self.flows.find(key, side)
        moved_away = entry is not None and not packet.is_error and self._is_another_now(interface, entry, packet)
        if entry is not None and not moved_away:
            self._check_answer(key, side, entry, packet)
            return self._carry(key, entry, packet, interface)
        if entry is not None:
            self.flows.end(entry.conversation)
        opening = self.openings.from_guest(interface, packet, continued=moved_away)
        if opening.echo:
            return self._delivered(interface.port, _echoed(packet))
        fate = self._carry(key, opening.entry, packet, interface)
        if not isinstance(fate, Dropped):
            self.openings.remember(key, side, opening)
        return fate

    def _is_untranslated(self, selector: Selector, key: FlowKey, side: Side, entry: Entry) -> bool:
        assert isinstance(selector, Untranslated)
        if not entry.original or side != Side(GUEST, selector.port) or entry.conversation not in self.public:
            return False
        if entry.ends.source != key.source:
            return False
        return key.source == selector.address or (selector.nat64 and key.destination in NAT64)

    def _is_another_now(self, interface: Interface, entry: Entry, packet: Packet) -> bool:
        """Did the other end of a guest's conversation move between this host and another, or would it get a public
        address by now?"""
        if not entry.original or entry.answers is None:
            return False
        match self.world.route(interface.vni, entry.toward):
            case (RemoteHop(), 0) if entry.ends == packet.ends and self.world.is_translated(interface, packet.ends):
                return True
            case (LocalHop(port=port), _):
                return entry.answers != Side(GUEST, port)
            case (RemoteHop(), _) if entry.answers.kind in (GUEST, TUNNEL):
                return entry.answers != Side(TUNNEL, interface.port)
        return False

    def _check_answer(self, key: FlowKey, side: Side, entry: Entry, packet: Packet) -> None:
        """An answer that comes to another guest than who began has to be let in there, unless it was asked for."""
        if entry.original or entry.way is Way.RELAY:
            return
        found = self.world.route(key.vni, entry.toward)
        port = found[0].port if found and isinstance(found[0], LocalHop) else None
        if port is not None and entry.answers != Side(GUEST, port) and entry.admitted != port:
            asked = self.flows.find(replace(key, source=entry.ends.source), Side(TUNNEL, port))
            owner = self.world.interface(port)
            if owner and (asked is None or asked.original) and not self.world.accepts(owner, Direction.INGRESS, packet):
                raise Lost("FIREWALL")
        if found and not packet.is_error:
            self.flows.admit(key, side, port)

    def _check_source(self, interface: Interface, frame: bytes, packet: Packet) -> None:
        if interface.port in self.unseen:
            self.macs.pop(interface.port, None)
            self.unseen.remove(interface.port)
        if self.macs.setdefault(interface.port, frame[6:12]) != frame[6:12]:
            raise Lost("SPOOFED_MAC")
        if not self.world.may_send_from(interface, packet.ends.source):
            raise Lost("SPOOFED_ADDRESS")

    def _from_tunnel(
        self, function: Function, underlay: IPv6Address, outer_source: IPv6Address, arrival: Arrival, packet: Packet
    ) -> Fate:
        if packet.protocol == UDP and packet.ends.destination_port in GUEST_SERVICES:
            raise Lost("DHCP_FROM_TUNNEL")
        separate = function.kind in (FunctionKind.NAT, FunctionKind.BALANCER_PREFIX)
        key = key_of(function.vni, packet, function.kind if separate else FunctionKind.UNDEFINED)
        side = side_of(function)
        entry = self.flows.find(key, side)
        if entry is not None:
            return self._onward(function.vni, key, entry, packet, arrival)
        opening = self.openings.from_tunnel(function, key, packet)
        if opening.echo:
            return self._encapsulated(arrival.uplink, self.world.host, outer_source, _echoed(packet))
        fate = self._onward(function.vni, key, opening.entry, packet, arrival)
        if not isinstance(fate, Dropped):
            self.openings.remember(key, side, opening)
        return fate

    def _carry(self, key: FlowKey, entry: Entry, packet: Packet, interface: Interface) -> Fate:
        """A guest's packet, rewritten and routed."""
        if entry.way is Way.RELAY:
            assert entry.underlay
            return self._encapsulated(self._uplink(key), self.world.host, entry.underlay, packet)
        found = self.world.route(interface.vni, entry.toward)
        moved = _moved(packet, key, entry)
        if found is not None and entry.original and not packet.is_error:
            is_public = isinstance(found[0], RemoteHop) and found[1] == 0
            (self.public.add if is_public else self.public.discard)(entry.conversation)
        match found:
            case (LocalHop(port=port), _):
                return self._delivered(port, moved)
            case (RemoteHop(underlay=underlay), _):
                return self._encapsulated(self._uplink(key), interface.underlay, underlay, moved)
        raise Lost("NO_ROUTE")

    def _onward(self, vni: Vni, key: FlowKey, entry: Entry, packet: Packet, arrival: Arrival) -> Fate:
        """A packet from the fabric: to a guest, or back to the fabric."""
        if entry.way is Way.PORT and entry.port is not None:
            return self._delivered(entry.port, _moved(packet, key, entry))
        if entry.way is Way.RELAY and entry.underlay:
            return self._relayed(arrival, entry.underlay, packet)
        if entry.way is Way.BALANCE and entry.underlay:
            target = self.world.function(entry.underlay)
            if target is not None:
                if target.kind not in LOCAL_TARGETS:
                    raise Lost("BALANCER")
                return self._from_tunnel(target, entry.underlay, entry.underlay, arrival, packet)
            return self._relayed(arrival, entry.underlay, packet)
        found = self.world.route(vni, entry.toward)
        if found is None:
            raise Lost("NO_ROUTE")
        if not isinstance(found[0], LocalHop):
            raise Lost("NO_TRANSIT")
        return self._delivered(found[0].port, _moved(packet, key, entry))

    def _delivered(self, port: PortNumber, packet: Packet) -> Fate:
        link = self.world.guests.get(port)
        if link is None or self.world.interface(port) is None:
            raise Lost("NO_DEVICE")
        kind = IPV4 if packet.version == 4 else IPV6
        frame = self.macs.get(port, link.mac) + link.mac + struct.pack("!H", kind) + packet.data
        return Delivered(port, frame)

    def _uplink(self, key: FlowKey) -> int:
        first = uplink_slot(key.hash()) < first_uplink_slots(self.world.percent)
        for index in (0, 1) if first else (1, 0):
            if index < len(self.world.uplinks) and self.world.uplinks[index].usable:
                return index
        raise Lost("NO_UPLINK")

    def _relayed(self, arrival: Arrival, destination: IPv6Address, packet: Packet) -> Fate:
        """From the fabric to the fabric: of hosts that send a packet to each other, one ends it."""
        if arrival.hop_limit <= 1:
            raise Lost("HOP_LIMIT")
        return self._encapsulated(arrival.uplink, self.world.host, destination, packet, arrival.hop_limit - 1)

    def _encapsulated(
        self, uplink: int, source: IPv6Address, destination: IPv6Address, packet: Packet, hop_limit: int = HOP_LIMIT
    ) -> Fate:
        link = self.world.uplinks[uplink]
        head = struct.pack("!IHBB", 6 << 28, len(packet.data), 4 if packet.version == 4 else 41, hop_limit)
        ethernet = link.router + link.mac + struct.pack("!H", IPV6)
        return Tunnelled(uplink, ethernet + head + source.packed + destination.packed + packet.data)


def _is_meant(selector: Selector, key: FlowKey, side: Side, entry: Entry) -> bool:
    match selector:
        case OfPort(port=port):
            return port in (side.port, entry.port, entry.owner, entry.admitted)
        case VipOfPort(port=port):
            return entry.vip == port
        case NatOfPort(port=port):
            return entry.mapping is not None and entry.owner == port
        case Untranslated():
            return False  # see _is_untranslated
        case OriginalDestination(vni=vni, address=address):
            return entry.original and (key.vni, key.destination) == (vni, address)
        case NeighborRange(vni=vni, address=address, min_port=low, max_port=high):
            here = entry.way is Way.RELAY and (key.vni, key.destination) == (vni, address)
            return here and low <= key.destination_port < high
        case Target(underlay=underlay):
            return entry.way is Way.BALANCE and entry.underlay == underlay
    raise TypeError(f"no such selector: {selector}")


def _lost(error: Lost | Malformed) -> Dropped:
    if isinstance(error, Lost):
        return dropped(str(error))
    return dropped("MALFORMED", "TRUNCATED", "PROTOCOL", "NOT_IP")


def _is_unicast(destination: IPAddress) -> bool:
    if isinstance(destination, IPv4Address):
        first = int(destination) >> 16
        return first >> 12 < 0xE and first != LINK_LOCAL4 and int(destination) != 0
    return not destination.is_multicast and not destination.is_link_local


def _echoed(packet: Packet) -> Packet:
    """The answer to an echo request: as the asked address would give it."""
    turned = rewritten(packet, packet.ends.turned())
    data, at = bytearray(turned.data), packet.transport
    answer = {8: 0, 128: 129}[data[at]]
    value = int.from_bytes(data[at + 2 : at + 4], "big") + (data[at] - answer << 8)
    data[at], data[at + 2 : at + 4] = answer, ((value & 0xFFFF) + (value >> 16)).to_bytes(2, "big")
    assert packet.icmp in ECHO_REQUESTS
    return replace(turned, data=bytes(data))


def _moved(packet: Packet, key: FlowKey, entry: Entry) -> Packet:
    """The packet between the endpoints that its direction says; an error together with what it quotes."""
    if packet.is_error:
        if entry.ends.source.version != packet.version:
            raise Lost("NAT64")
        quote = packet.quoted
        source, destination = packet.ends.source, packet.ends.destination
        return with_quote(
            packet,
            rewritten(quote, entry.ends.turned(), quoted=True),
            entry.ends.source if source == key.source else source,
            entry.ends.destination if destination == key.destination else destination,
        )
    if entry.ends.source.version == packet.version:
        return rewritten(packet, entry.ends)
    return to_ipv4(packet, entry.ends) if packet.version == 6 else to_ipv6(packet, entry.ends)
