"""Interfaces: a guest's device, its addresses, and everything that goes when it goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import count
from typing import Final

from services.dpservice.model.changes import AnyChange, Change
from services.dpservice.model.concern import Concern
from services.dpservice.model.errors import AlreadyExists, InterfaceExists, NotFound, RateRefused
from services.dpservice.model.keys import CaptureKey, FirewallKey, FunctionKey, InterfaceKey, NatKey, RouteKey, VipKey
from services.dpservice.model.rows import (
    Function,
    FunctionKind,
    Interface,
    InterfaceId,
    IPNetwork,
    LocalHop,
    PortNumber,
    Vni,
)
from services.dpservice.model.underlay import UnderlayAddress

RATE_LIMIT: Final = 0xFFFFFFFF
"""Mbit/s that the original can hand on."""


@dataclass(frozen=True)
class NewInterface:
    """A readable CreateInterface request; `preferred` was accepted by the allocator. Rates in Mbit/s, 0: unlimited."""

    id: InterfaceId
    device: str
    vni: Vni
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    preferred: UnderlayAddress | None = None
    hostname: str = ""
    next_server: str = ""
    boot_filename: str = ""
    total_rate: int = 0
    public_rate: int = 0


class Interfaces(Concern):
    """Get, List, Create, Delete."""

    def interface(self, interface_id: InterfaceId) -> Interface:
        """Raises NotFound 201."""
        found = self.tables.interfaces.get(interface_id)
        if found is None:
            raise NotFound(f"no interface {interface_id}")
        return found

    def interfaces(self) -> list[Interface]:
        """In the order of their devices, as the original lists them."""
        last = len(self._device_order)
        return sorted(
            self.tables.interfaces.values(), key=lambda nic: (self._device_order.get(nic.device, last), nic.id)
        )

    def create_interface(self, request: NewInterface) -> tuple[Interface, list[AnyChange]]:
        """Raises, in this order, NotFound 201, AlreadyExists 202, UnderlayTaken 401, InterfaceExists 402, VniLimit 361,
        RouteExists 301, RouteInsert 303, RateRefused 383."""
        self._check_device(request.device)
        self._check_underlay(request.preferred)
        if request.id in self.tables.interfaces:
            raise InterfaceExists(f"interface {request.id} exists")
        self._check_vni(request.vni)
        hosts = host_prefixes(request.ipv4, request.ipv6)
        for prefix in hosts:
            self._check_new_route(request.vni, prefix)
        _check_rates(request.total_rate, request.public_rate)
        interface = Interface(
            id=request.id,
            port=self._free_port(),
            device=request.device,
            vni=request.vni,
            ipv4=request.ipv4,
            ipv6=request.ipv6,
            underlay=self._underlay(request.preferred),
            hostname=request.hostname,
            next_server=request.next_server,
            boot_filename=request.boot_filename,
            total_rate=request.total_rate,
            public_rate=request.public_rate,
        )
        function = Function(FunctionKind.INTERFACE, interface.vni, interface.port)
        changes: list[AnyChange] = [
            Change(InterfaceKey(interface.id), None, interface),
            Change(FunctionKey(interface.underlay), None, function),
        ]
        changes += [Change(RouteKey(interface.vni, prefix), None, LocalHop(interface.port)) for prefix in hosts]
        return interface, self._commit(changes)

    def delete_interface(self, interface_id: InterfaceId) -> list[AnyChange]:
        """Removes the interface with whatever belongs to it; the last user of a VNI takes the VNI's routes and
        neighbors along.

        Raises NotFound 201.
        """
        interface = self.interface(interface_id)
        changes = self._end_of_vni(interface.vni) or self._own_routes_gone(interface)
        functions = self.tables.functions_of[interface.port]
        changes += [Change(FunctionKey(underlay), function, None) for underlay, function in functions.items()]
        if interface_id in self.tables.vips:
            changes.append(Change(VipKey(interface_id), self.tables.vips[interface_id], None))
        if interface_id in self.tables.nats:
            changes.append(Change(NatKey(interface_id), self.tables.nats[interface_id], None))
        rules = self.tables.rules.get(interface_id, {})
        changes += [Change(FirewallKey(interface_id, rule_id), rule, None) for rule_id, rule in rules.items()]
        capture = self.tables.capture
        if capture is not None and interface_id in capture.points:
            others = tuple(point for point in capture.points if point != interface_id)
            changes.append(Change(CaptureKey(), capture, replace(capture, points=others)))
        changes.append(Change(InterfaceKey(interface_id), interface, None))
        return self._commit(changes)

    def _own_routes_gone(self, interface: Interface) -> list[AnyChange]:
        functions = self.tables.functions_of[interface.port].values()
        aliases = [each.prefix for each in functions if each.kind is FunctionKind.ALIAS_PREFIX and each.prefix]
        own = [*host_prefixes(interface.ipv4, interface.ipv6), *aliases]
        return [Change(RouteKey(interface.vni, prefix), LocalHop(interface.port), None) for prefix in own]

    def _check_device(self, device: str) -> None:
        if device not in self._device_order and device not in self._uplinks:
            raise NotFound(f"no device {device}")
        if device in self._uplinks or device in self.tables.of_device:
            raise AlreadyExists(f"device {device} is in use")

    def _free_port(self) -> PortNumber:
        used = self.tables.of_port
        return next(PortNumber(number) for number in count() if number not in used)


def host_prefixes(ipv4: IPv4Address | None, ipv6: IPv6Address | None) -> list[IPNetwork]:
    """The routes to an interface's own addresses."""
    prefixes: list[IPNetwork] = []
    if ipv4 is not None:
        prefixes.append(IPv4Network(ipv4))
    if ipv6 is not None:
        prefixes.append(IPv6Network(ipv6))
    return prefixes


def _check_rates(total: int, public: int) -> None:
    if total > RATE_LIMIT or public > RATE_LIMIT:
        raise RateRefused(f"a rate is above {RATE_LIMIT} Mbit/s")
    if total and public > total:
        raise RateRefused(f"the public rate {public} is above the total rate {total}")
