"""What packets see of the model: ports with all that belongs to them, who owns public addresses, sorted rules.

Routes, functions and neighbors pass as they are; the other rows are derived anew when something they depend on changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from services.dpservice.guest.boot import boot_of
from services.dpservice.guest.services import GuestServices
from services.dpservice.guest.templates import templates
from services.dpservice.model.changes import AnyChange, Change, RouteChanges, Row, Rows
from services.dpservice.model.keys import (
    BalancerKey,
    BalancerNumberKey,
    FirewallKey,
    FunctionKey,
    InterfaceKey,
    NatKey,
    NeighborKey,
    PortKey,
    PublicKey,
    RouteKey,
    RulesKey,
    SourceKey,
    VipKey,
)
from services.dpservice.model.packet_rows import (
    AllowedSource,
    PacketBalancer,
    PacketCapture,
    PacketRule,
    Port,
    Public,
    Rules,
)
from services.dpservice.model.rows import (
    ANY,
    Balancer,
    FirewallRule,
    Function,
    FunctionKind,
    IcmpFilter,
    Interface,
    InterfaceId,
    IPNetwork,
    NatSlice,
    PortFilter,
    PortNumber,
    Protocol,
    Vip,
)
from services.dpservice.model.tables import Tables

ALL_PORTS: Final = (0, 65535)
DerivedKey: TypeAlias = PortKey | PublicKey | BalancerNumberKey | RulesKey | SourceKey


class PacketView:
    """Keeps up with the model and remembers the derived rows as it last told them.

    Without `enforce` there are no firewall rules for packets, as in the original.
    """

    def __init__(self, tables: Tables, services: GuestServices, *, enforce: bool = True) -> None:
        self._tables, self._services, self._enforce = tables, services, enforce
        self._told: dict[DerivedKey, Row] = {}

    def follow(self, changes: Sequence[AnyChange]) -> list[AnyChange]:
        """The changes, which the tables have already, in an engine's vocabulary.

        What goes comes first and what refers to a port before the port; then the rest the other way round.
        """
        if all(isinstance(change, RouteChanges) or type(change.key) is RouteKey for change in changes):
            return list(changes)
        passed = [_passed(change) for change in changes if _passes(change)]
        derived = [self._renewed(key) for key in self._touched(changes)]
        ports = [change for change in derived if isinstance(change.key, PortKey)]
        others = [change for change in derived if not isinstance(change.key, PortKey)]
        gone = [change for change in (*passed, *others, *ports) if _goes(change)]
        come = [change for change in (*ports, *others, *passed) if not _goes(change)]
        return [change for change in (*gone, *come) if not isinstance(change, Change) or change.before != change.after]

    def start(self) -> Rows:
        """Every row but routes, to begin with."""
        self._told.clear()
        changes = [change for change in self._tables.rows() if isinstance(change, Change)]
        rows: Rows = {}
        for change in self.follow(changes):
            if isinstance(change, Change) and change.after is not None:
                rows[change.key] = change.after
        return rows

    def capture(self) -> PacketCapture | None:
        """What is captured, in an engine's vocabulary."""
        capture = self._tables.capture
        if capture is None:
            return None
        ports = [self._tables.interfaces[point].port for point in capture.points if isinstance(point, str)]
        uplinks = [point for point in capture.points if isinstance(point, int)]
        return PacketCapture(capture.sink, capture.source_port, capture.destination_port, tuple(ports), tuple(uplinks))

    # What depends on what

    def _touched(self, changes: Sequence[AnyChange]) -> dict[DerivedKey, None]:
        """Keys of derived rows, each once; those of an interface that is gone too."""
        owner = owners(changes, self._tables)
        return dict.fromkeys(
            key for change in changes if isinstance(change, Change) for key in _dependents(change, owner)
        )

    def _renewed(self, key: DerivedKey) -> Change:
        before, after = self._told.get(key), self._derive(key)
        if after is None:
            self._told.pop(key, None)
        else:
            self._told[key] = after
        return Change(key, before, after)

    def _derive(self, key: DerivedKey) -> Row | None:
        match key:
            case PortKey(number=number):
                return self._port(number)
            case PublicKey():
                return self._public(key)
            case BalancerNumberKey():
                return self._balancer(key)
            case RulesKey():
                return self._rules(key)
            case SourceKey():
                functions = self._tables.functions_of.get(key.port, {}).values()
                allowed = any(_balancer_prefix(function) == key.prefix for function in functions)
                return AllowedSource() if allowed else None

    def _port(self, number: PortNumber) -> Port | None:
        owner = self._tables.of_port.get(number)
        if owner is None:
            return None
        nic, vip = self._tables.interfaces[owner], self._tables.vips.get(owner)
        boot = boot_of(nic.next_server, nic.boot_filename)
        return Port(
            device=nic.device,
            vni=nic.vni,
            ipv4=nic.ipv4,
            ipv6=nic.ipv6,
            underlay=nic.underlay,
            templates=templates(nic.ipv4, nic.ipv6, nic.hostname, boot, self._services),
            vip=vip.address if vip else None,
            nat=self._tables.nats.get(owner),
            total_rate=nic.total_rate,
            public_rate=nic.public_rate,
        )

    def _public(self, key: PublicKey) -> Public | None:
        owner = self._tables.vip_owners.get(key)
        if owner is not None:
            return Public(self._tables.interfaces[owner].port)
        return Public(None) if key in self._tables.nat_users else None

    def _balancer(self, key: BalancerNumberKey) -> PacketBalancer | None:
        place = self._tables.balancer_of_number.get(key.number)
        if place is None:
            return None
        balancer = self._tables.balancers[place]
        return PacketBalancer(place.vni, place.address, balancer.ports, balancer.targets, balancer.underlay)

    def _rules(self, key: RulesKey) -> Rules | None:
        owner = self._tables.of_port.get(key.port)
        if owner is None or not self._enforce:
            return None
        rules = [rule for rule in self._tables.rules.get(owner, {}).values() if rule.direction is key.direction]
        rules.sort(key=lambda rule: (rule.priority, rule.order))
        return Rules(tuple(_packet_rule(rule) for rule in rules)) if rules else None


def owners(changes: Sequence[AnyChange], tables: Tables) -> Callable[[InterfaceId], Interface]:
    """Finds interfaces, also those that go with the changes. The tables have the changes already."""
    gone = {
        change.key.id: change.before
        for change in changes
        if isinstance(change, Change) and isinstance(change.key, InterfaceKey) and isinstance(change.before, Interface)
    }
    return lambda interface_id: gone.get(interface_id) or tables.interfaces[interface_id]


def _passes(change: AnyChange) -> bool:
    return isinstance(change, RouteChanges) or isinstance(change.key, RouteKey | FunctionKey | NeighborKey)


def _passed(change: AnyChange) -> AnyChange:
    if isinstance(change, RouteChanges) or not isinstance(change.key, FunctionKey):
        return change
    return Change(change.key, _without_prefix(change.before), _without_prefix(change.after))


def _without_prefix(row: Row | None) -> Row | None:
    return replace(row, prefix=None) if isinstance(row, Function) and row.prefix is not None else row


def _goes(change: AnyChange) -> bool:
    return not change.after


def _dependents(change: Change, owner: Callable[[InterfaceId], Interface]) -> Iterator[DerivedKey]:
    for row in (change.before, change.after):
        match change.key, row:
            case InterfaceKey(), Interface():
                yield PortKey(row.port)
            case (VipKey() | NatKey()) as key, (Vip() | NatSlice()):
                yield PortKey(owner(key.interface_id).port)
                yield PublicKey(owner(key.interface_id).vni, row.address)
            case NeighborKey(vni=vni, address=address), _:
                yield PublicKey(vni, address)
            case BalancerKey(), Balancer():
                yield BalancerNumberKey(row.number)
            case FirewallKey(interface_id=interface_id), FirewallRule():
                yield RulesKey(owner(interface_id).port, row.direction)
            case FunctionKey(), Function():
                prefix = _balancer_prefix(row)
                if prefix is not None:
                    yield SourceKey(row.port, prefix)


def _balancer_prefix(function: Function) -> IPNetwork | None:
    return function.prefix if function.kind is FunctionKind.BALANCER_PREFIX else None


def _packet_rule(rule: FirewallRule) -> PacketRule:
    protocol, source, destination = Protocol.UNDEFINED, ALL_PORTS, ALL_PORTS
    icmp_type = icmp_code = ANY
    match rule.filter:
        case IcmpFilter():
            protocol = Protocol.ICMP if rule.source.version == 4 else Protocol.ICMPV6
            icmp_type, icmp_code = rule.filter.type, rule.filter.code
        case PortFilter():
            protocol = rule.filter.protocol
            source = _ports(rule.filter.source_low, rule.filter.source_high)
            destination = _ports(rule.filter.destination_low, rule.filter.destination_high)
    return PacketRule(
        rule.accept,
        rule.source.network,
        rule.destination.network,
        protocol,
        source,
        destination,
        icmp_type,
        icmp_code,
    )


def _ports(low: int, high: int) -> tuple[int, int]:
    return ALL_PORTS if low == ANY else (low, high)
