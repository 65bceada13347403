"""The tables of a host's overlay, and the one place where a change is put into them. No rules here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TypeVar

from services.dpservice.model.changes import AnyChange, Change, RouteChanges, RouteTables, route_number
from services.dpservice.model.keys import (
    BalancerKey,
    CaptureKey,
    FirewallKey,
    FunctionKey,
    InterfaceKey,
    NatKey,
    NeighborKey,
    PublicKey,
    RouteKey,
    VipKey,
)
from services.dpservice.model.rows import (
    Balancer,
    BalancerId,
    BalancerNumber,
    Capture,
    FirewallRule,
    Function,
    FunctionKind,
    Interface,
    InterfaceId,
    LocalHop,
    NatSlice,
    Neighbor,
    PortNumber,
    RemoteHop,
    RuleId,
    Vip,
    Vni,
)
from services.dpservice.model.underlay import UnderlayAddress

T = TypeVar("T")


@dataclass
class Tables:
    """Rows by key, with what is looked up otherwise beside them.

    A row of an interface's VIP, NAT or firewall comes after the interface's own and goes before it.
    """

    interfaces: dict[InterfaceId, Interface] = field(default_factory=dict)
    functions: dict[UnderlayAddress, Function] = field(default_factory=dict)
    routes: RouteTables = field(default_factory=dict)
    vips: dict[InterfaceId, Vip] = field(default_factory=dict)
    nats: dict[InterfaceId, NatSlice] = field(default_factory=dict)
    neighbors: dict[NeighborKey, Neighbor] = field(default_factory=dict)
    balancers: dict[BalancerKey, Balancer] = field(default_factory=dict)
    rules: dict[InterfaceId, dict[RuleId, FirewallRule]] = field(default_factory=dict)
    capture: Capture | None = None

    of_device: dict[str, InterfaceId] = field(default_factory=dict)
    of_port: dict[PortNumber, InterfaceId] = field(default_factory=dict)
    functions_of: dict[PortNumber, dict[UnderlayAddress, Function]] = field(default_factory=dict)
    balancer_of_id: dict[BalancerId, BalancerKey] = field(default_factory=dict)
    balancer_of_number: dict[BalancerNumber, BalancerKey] = field(default_factory=dict)
    vip_owners: dict[PublicKey, InterfaceId] = field(default_factory=dict)
    nat_users: Counter[PublicKey] = field(default_factory=Counter)  # local slices and neighbors
    neighbors_of: dict[IPv4Address, list[NeighborKey]] = field(default_factory=dict)
    vni_users: Counter[Vni] = field(default_factory=Counter)  # interfaces and balancers
    route_count: dict[int, int] = field(default_factory=lambda: {4: 0, 6: 0})  # by IP version

    def rows(self) -> Iterator[AnyChange]:
        """Everything as if it had just appeared, in an order in which it can be put."""
        for interface in self.interfaces.values():
            yield Change(InterfaceKey(interface.id), None, interface)
        for underlay, function in self.functions.items():
            yield Change(FunctionKey(underlay), None, function)
        for owner, vip in self.vips.items():
            yield Change(VipKey(owner), None, vip)
        for owner, nat in self.nats.items():
            yield Change(NatKey(owner), None, nat)
        for neighbor_key, neighbor in self.neighbors.items():
            yield Change(neighbor_key, None, neighbor)
        for balancer_key, balancer in self.balancers.items():
            yield Change(balancer_key, None, balancer)
        for owner, rules in self.rules.items():
            for rule_id, rule in rules.items():
                yield Change(FirewallKey(owner, rule_id), None, rule)
        if self.capture is not None:
            yield Change(CaptureKey(), None, self.capture)
        for (vni, version), hops in self.routes.items():
            yield RouteChanges(vni, version, {}, dict(hops))

    def put_all(self, changes: Iterable[AnyChange]) -> None:
        """Puts changes in their order."""
        for change in changes:
            if isinstance(change, RouteChanges):
                self._put_routes(change)
            else:
                self._put(change)

    def _put(self, change: Change) -> None:
        match change.key:
            case RouteKey():
                self._put_route(change.key, change)
            case FunctionKey(underlay=underlay):
                self._put_function(underlay, change)
            case InterfaceKey(id=interface_id):
                self._put_interface(interface_id, change)
            case VipKey(interface_id=interface_id):
                self._put_vip(interface_id, change)
            case NatKey(interface_id=interface_id):
                self._put_nat(interface_id, change)
            case NeighborKey():
                self._put_neighbor(change.key, change)
            case BalancerKey():
                self._put_balancer(change.key, change)
            case FirewallKey():
                self._put_rule(change.key, change)
            case CaptureKey():
                self.capture = change.after if isinstance(change.after, Capture) else None
            case _:
                raise TypeError(f"the model has no such row: {change}")

    def _put_interface(self, interface_id: InterfaceId, change: Change) -> None:
        if isinstance(change.before, Interface):
            del self.interfaces[interface_id], self.of_device[change.before.device], self.of_port[change.before.port]
            _leave(self.vni_users, change.before.vni)
        if isinstance(change.after, Interface):
            self.interfaces[interface_id] = change.after
            self.of_device[change.after.device] = self.of_port[change.after.port] = interface_id
            self.vni_users[change.after.vni] += 1

    def _put_function(self, underlay: UnderlayAddress, change: Change) -> None:
        for function in (change.before, change.after):
            if not isinstance(function, Function):
                continue
            fresh = function is change.after
            if fresh:
                self.functions[underlay] = function
            else:
                del self.functions[underlay]
            if function.kind is FunctionKind.BALANCER:
                continue
            if fresh:
                self.functions_of.setdefault(function.port, {})[underlay] = function
            else:
                del self.functions_of[function.port][underlay]
                if not self.functions_of[function.port]:
                    del self.functions_of[function.port]

    def _put_vip(self, owner: InterfaceId, change: Change) -> None:
        vni = self.interfaces[owner].vni
        if isinstance(change.before, Vip):
            del self.vips[owner], self.vip_owners[PublicKey(vni, change.before.address)]
        if isinstance(change.after, Vip):
            self.vips[owner] = change.after
            self.vip_owners[PublicKey(vni, change.after.address)] = owner

    def _put_nat(self, owner: InterfaceId, change: Change) -> None:
        vni = self.interfaces[owner].vni
        if isinstance(change.before, NatSlice):
            del self.nats[owner]
            _leave(self.nat_users, PublicKey(vni, change.before.address))
        if isinstance(change.after, NatSlice):
            self.nats[owner] = change.after
            self.nat_users[PublicKey(vni, change.after.address)] += 1

    def _put_neighbor(self, key: NeighborKey, change: Change) -> None:
        public = PublicKey(key.vni, key.address)
        if isinstance(change.before, Neighbor):
            del self.neighbors[key]
            self.neighbors_of[key.address].remove(key)
            if not self.neighbors_of[key.address]:
                del self.neighbors_of[key.address]
            _leave(self.nat_users, public)
        if isinstance(change.after, Neighbor):
            self.neighbors[key] = change.after
            self.neighbors_of.setdefault(key.address, []).append(key)
            self.nat_users[public] += 1

    def _put_balancer(self, key: BalancerKey, change: Change) -> None:
        match change.before, change.after:
            case None, Balancer() as balancer:
                self.balancers[key] = balancer
                self.balancer_of_id[balancer.id] = self.balancer_of_number[balancer.number] = key
                self.vni_users[key.vni] += 1
            case Balancer() as balancer, None:
                del self.balancers[key], self.balancer_of_id[balancer.id], self.balancer_of_number[balancer.number]
                _leave(self.vni_users, key.vni)
            case _, Balancer() as balancer:
                self.balancers[key] = balancer  # id and number stay for life

    def _put_rule(self, key: FirewallKey, change: Change) -> None:
        rules = self.rules.setdefault(key.interface_id, {})
        if isinstance(change.after, FirewallRule):
            rules[key.rule_id] = change.after
        else:
            del rules[key.rule_id]
            if not rules:
                del self.rules[key.interface_id]

    def _put_route(self, key: RouteKey, change: Change) -> None:
        version = key.prefix.version
        table, number = (key.vni, version), route_number(key.prefix)
        match change.after:
            case None:
                del self.routes[table][number]
                self.route_count[version] -= 1
                if not self.routes[table]:
                    del self.routes[table]
            case LocalHop() | RemoteHop() as hop:
                hops = self.routes.setdefault(table, {})
                self.route_count[version] += number not in hops
                hops[number] = hop

    def _put_routes(self, change: RouteChanges) -> None:
        hops = self.routes.setdefault((change.vni, change.version), {})
        before = len(hops)
        for number in change.before.keys() - change.after.keys():
            del hops[number]
        hops.update(change.after)
        self.route_count[change.version] += len(hops) - before
        if not hops:
            del self.routes[change.vni, change.version]


def _leave(users: Counter[T], place: T) -> None:
    users[place] -= 1
    if not users[place]:
        del users[place]
