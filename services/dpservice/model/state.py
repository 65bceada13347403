"""The state of a host's overlay and the rules that guard it.

Every mutator checks in the order that clients know, raises a `Refusal` before anything is touched, and returns the
changes it made; `undo` takes them back. Limits are those of the original where a client could meet them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from services.dpservice.model.errors import (
    AlreadyExists,
    InterfaceExists,
    InterfaceUnknown,
    NotFound,
    RouteExists,
    RouteInsert,
    RouteOfPort,
    RouteUnknown,
    UnderlayTaken,
    VniLimit,
    VniUnknown,
)
from services.dpservice.model.rows import (
    Change,
    Function,
    FunctionKey,
    FunctionKind,
    Hop,
    Interface,
    InterfaceId,
    InterfaceKey,
    IPNetwork,
    LocalHop,
    PortNumber,
    RemoteHop,
    RouteKey,
    Vni,
    inverted,
    one_by_one,
)
from services.dpservice.model.underlay import UnderlayAddress, UnderlayAllocator

UNDERLAY_LIMIT: Final = 1000
VNI_LIMIT: Final = 512


@dataclass(frozen=True)
class Limits:
    """What the tables hold; `routes` counts both those of a family in all VNIs, interfaces' own included."""

    routes: int = 65536
    underlay: int = UNDERLAY_LIMIT
    vnis: int = VNI_LIMIT


@dataclass(frozen=True)
class NewInterface:
    """A readable CreateInterface request; `preferred` was accepted by the allocator."""

    id: InterfaceId
    device: str
    vni: Vni
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    preferred: UnderlayAddress | None = None
    hostname: str = ""
    next_server: str = ""
    boot_filename: str = ""


class Model:
    """Interfaces, routes and underlay addresses of one host. Pure; the caller programs the packets."""

    def __init__(
        self,
        devices: Sequence[str],
        uplinks: Sequence[str],
        allocator: UnderlayAllocator,
        limits: Limits | None = None,
    ) -> None:
        self.devices = tuple(devices)
        self.allocator = allocator
        self.limits = limits or Limits()
        self.initialized = False
        self._uplinks = frozenset(uplinks)
        self._interfaces: dict[InterfaceId, Interface] = {}
        self._routes: dict[Vni, dict[IPNetwork, Hop]] = {}
        self._functions: dict[UnderlayAddress, Function] = {}
        self._route_count = {4: 0, 6: 0}

    # What there is

    def interfaces(self) -> list[Interface]:
        """In the order of their devices, as the original lists them."""
        order = {device: index for index, device in enumerate(self.devices)}
        return sorted(self._interfaces.values(), key=lambda nic: (order.get(nic.device, len(order)), nic.id))

    def interface(self, interface_id: InterfaceId) -> Interface:
        """Raises NotFound 201."""
        if interface_id not in self._interfaces:
            raise NotFound(f"no interface {interface_id}")
        return self._interfaces[interface_id]

    def prefixes(self, interface_id: InterfaceId) -> list[tuple[IPNetwork, UnderlayAddress]]:
        """The alias prefixes of an interface. Raises InterfaceUnknown 205."""
        owner = self._owner(interface_id)
        found = [
            (function.prefix, underlay)
            for underlay, function in self._functions.items()
            if function.port == owner.port and function.prefix is not None
        ]
        return sorted(found, key=lambda row: (row[0].version, row[0].network_address.packed, row[0].prefixlen))

    def routes(self, vni: Vni) -> list[tuple[Vni, IPNetwork, RemoteHop]]:
        """External routes; of every VNI when `vni` is 0. Raises VniUnknown 206."""
        if vni and vni not in self._routes:
            raise VniUnknown(f"no VNI {vni}")
        found = [
            (each, prefix, hop)
            for each, table in self._routes.items()
            if vni in (0, each)
            for prefix, hop in table.items()
            if isinstance(hop, RemoteHop)
        ]
        return sorted(found, key=lambda row: (row[0], row[1].version, row[1].network_address.packed, row[1].prefixlen))

    def routes_by_vni(self) -> dict[Vni, int]:
        """How many routes each VNI has, interfaces' own included."""
        return {vni: len(table) for vni, table in self._routes.items()}

    def uses(self, vni: Vni) -> bool:
        """Is an interface of this host in the VNI?"""
        return vni in self._routes

    def rows(self) -> Iterator[Change]:
        """Everything as if it had just appeared, interfaces first."""
        for interface in self._interfaces.values():
            yield Change(InterfaceKey(interface.id), None, interface)
        for underlay, function in self._functions.items():
            yield Change(FunctionKey(underlay), None, function)
        for vni, table in self._routes.items():
            for prefix, hop in table.items():
                yield Change(RouteKey(vni, prefix), None, hop)

    # Interfaces

    def create_interface(self, request: NewInterface) -> tuple[Interface, list[Change]]:
        """Raises, in this order, NotFound 201, AlreadyExists 202, UnderlayTaken 401, InterfaceExists 402, VniLimit 361,
        RouteExists 301, RouteInsert 303."""
        self._check_device(request.device)
        self._check_underlay(request.preferred)
        if request.id in self._interfaces:
            raise InterfaceExists(f"interface {request.id} exists")
        if request.vni not in self._routes and len(self._routes) >= self.limits.vnis:
            raise VniLimit(f"{self.limits.vnis} VNIs are in use")
        hosts = _host_prefixes(request.ipv4, request.ipv6)
        for prefix in hosts:
            self._check_new_route(request.vni, prefix)
        interface = Interface(
            id=request.id,
            port=self._free_port(),
            device=request.device,
            vni=request.vni,
            ipv4=request.ipv4,
            ipv6=request.ipv6,
            underlay=request.preferred or self._generate(),
            hostname=request.hostname,
            next_server=request.next_server,
            boot_filename=request.boot_filename,
        )
        function = Function(FunctionKind.INTERFACE, interface.vni, interface.port)
        changes = [Change(InterfaceKey(interface.id), None, interface)]
        changes.append(Change(FunctionKey(interface.underlay), None, function))
        changes += [Change(RouteKey(interface.vni, prefix), None, LocalHop(interface.port)) for prefix in hosts]
        return interface, self._commit(changes)

    def delete_interface(self, interface_id: InterfaceId) -> list[Change]:
        """Removes the interface with its prefixes; the last one of a VNI takes the VNI's routes along.

        Raises NotFound 201.
        """
        interface = self.interface(interface_id)
        table = self._routes[interface.vni]
        last = sum(other.vni == interface.vni for other in self._interfaces.values()) == 1
        changes = [
            Change(RouteKey(interface.vni, prefix), hop, None)
            for prefix, hop in table.items()
            if last or hop == LocalHop(interface.port)
        ]
        changes += [
            Change(FunctionKey(underlay), function, None)
            for underlay, function in self._functions.items()
            if function.port == interface.port
        ]
        changes.append(Change(InterfaceKey(interface.id), interface, None))
        return self._commit(changes)

    # Alias prefixes

    def create_prefix(
        self, interface_id: InterfaceId, prefix: IPNetwork, preferred: UnderlayAddress | None
    ) -> tuple[UnderlayAddress, list[Change]]:
        """Raises InterfaceUnknown 205, RouteExists 301, RouteInsert 303, UnderlayTaken 401."""
        owner = self._owner(interface_id)
        self._check_new_route(owner.vni, prefix)
        self._check_underlay(preferred)
        underlay = preferred or self._generate()
        function = Function(FunctionKind.ALIAS_PREFIX, owner.vni, owner.port, prefix)
        changes = [
            Change(FunctionKey(underlay), None, function),
            Change(RouteKey(owner.vni, prefix), None, LocalHop(owner.port)),
        ]
        return underlay, self._commit(changes)

    def delete_prefix(self, interface_id: InterfaceId, prefix: IPNetwork) -> list[Change]:
        """Raises InterfaceUnknown 205, RouteUnknown 302, RouteOfPort 304, NotFound 201."""
        owner = self._owner(interface_id)
        hop = self._routes[owner.vni].get(prefix)
        if hop is None:
            raise RouteUnknown(f"VNI {owner.vni} has no {prefix}")
        if hop != LocalHop(owner.port):
            raise RouteOfPort(f"{prefix} of VNI {owner.vni} belongs to another port")
        for underlay, function in self._functions.items():
            if function.port == owner.port and function.prefix == prefix:
                return self._commit(
                    [
                        Change(RouteKey(owner.vni, prefix), hop, None),
                        Change(FunctionKey(underlay), function, None),
                    ]
                )
        raise NotFound(f"interface {interface_id} has no alias prefix {prefix}")

    # Routes and VNIs

    def create_route(self, vni: Vni, prefix: IPNetwork, hop: RemoteHop) -> list[Change]:
        """Raises VniUnknown 206, RouteExists 301, RouteInsert 303."""
        if vni not in self._routes:
            raise VniUnknown(f"no VNI {vni}")
        self._check_new_route(vni, prefix)
        return self._commit([Change(RouteKey(vni, prefix), None, hop)])

    def delete_route(self, vni: Vni, prefix: IPNetwork) -> list[Change]:
        """Raises VniUnknown 206, RouteUnknown 302, RouteOfPort 304."""
        if vni not in self._routes:
            raise VniUnknown(f"no VNI {vni}")
        hop = self._routes[vni].get(prefix)
        if hop is None:
            raise RouteUnknown(f"VNI {vni} has no {prefix}")
        if isinstance(hop, LocalHop):
            raise RouteOfPort(f"{prefix} of VNI {vni} belongs to a guest port")
        return self._commit([Change(RouteKey(vni, prefix), hop, None)])

    def reset_vni(self, vni: Vni) -> list[Change]:
        """Leaves the VNI only its interfaces' own addresses; an unknown VNI is none to reset."""
        return self._commit(self._reset(vni))

    def initialize(self) -> list[Change]:
        """Resets every VNI; interfaces survive."""
        self.initialized = True
        return self._commit([change for vni in self._routes for change in self._reset(vni)])

    # Taking back, and reading from a journal

    def undo(self, changes: Sequence[Change]) -> None:
        """Takes back what a mutator returned."""
        self._commit(list(one_by_one(inverted(changes))))

    def restore(self, changes: Sequence[Change]) -> None:
        """Puts recorded changes in without asking the rules again."""
        self._commit(list(changes))

    # Rules in common

    def _check_device(self, device: str) -> None:
        if device not in self.devices and device not in self._uplinks:
            raise NotFound(f"no device {device}")
        if device in self._uplinks or any(nic.device == device for nic in self._interfaces.values()):
            raise AlreadyExists(f"device {device} is in use")

    def _check_underlay(self, preferred: UnderlayAddress | None) -> None:
        if preferred is not None and preferred in self._functions:
            raise UnderlayTaken(f"{preferred} is taken")
        if len(self._functions) >= self.limits.underlay:
            raise UnderlayTaken(f"all {self.limits.underlay} underlay addresses are in use")

    def _check_new_route(self, vni: Vni, prefix: IPNetwork) -> None:
        if prefix in self._routes.get(vni, {}):
            raise RouteExists(f"VNI {vni} has {prefix}")
        if self._route_count[prefix.version] >= self.limits.routes:
            raise RouteInsert(f"the table of {self.limits.routes} IPv{prefix.version} routes is full")

    def _owner(self, interface_id: InterfaceId) -> Interface:
        if interface_id not in self._interfaces:
            raise InterfaceUnknown(f"no interface {interface_id}")
        return self._interfaces[interface_id]

    def _free_port(self) -> PortNumber:
        used = {interface.port for interface in self._interfaces.values()}
        return next(PortNumber(number) for number in range(len(used) + 1) if number not in used)

    def _generate(self) -> UnderlayAddress:
        return self.allocator.generate(self._functions.__contains__)

    def _reset(self, vni: Vni) -> list[Change]:
        own = {
            prefix
            for interface in self._interfaces.values()
            if interface.vni == vni
            for prefix in _host_prefixes(interface.ipv4, interface.ipv6)
        }
        routes = [
            Change(RouteKey(vni, prefix), hop, None)
            for prefix, hop in self._routes.get(vni, {}).items()
            if prefix not in own
        ]
        aliases = [
            Change(FunctionKey(underlay), function, None)
            for underlay, function in self._functions.items()
            if function.vni == vni and function.kind is FunctionKind.ALIAS_PREFIX
        ]
        return routes + aliases

    # Tables

    def _commit(self, changes: list[Change]) -> list[Change]:
        for change in changes:
            self._put(change)
        return changes

    def _put(self, change: Change) -> None:
        match change.key, change.after:
            case InterfaceKey(id=interface_id), Interface() as interface:
                self._interfaces[interface_id] = interface
                self._routes.setdefault(interface.vni, {})
            case InterfaceKey(id=interface_id), None:
                vni = self._interfaces.pop(interface_id).vni
                if all(other.vni != vni for other in self._interfaces.values()):
                    self._routes.pop(vni)
            case RouteKey(vni=vni, prefix=prefix), LocalHop() | RemoteHop() as hop:
                self._route_count[prefix.version] += prefix not in self._routes[vni]
                self._routes[vni][prefix] = hop
            case RouteKey(vni=vni, prefix=prefix), None:
                del self._routes[vni][prefix]
                self._route_count[prefix.version] -= 1
            case FunctionKey(underlay=underlay), Function() as function:
                self._functions[underlay] = function
            case FunctionKey(underlay=underlay), None:
                del self._functions[underlay]
            case _:
                raise TypeError(f"the model has no such row: {change}")


def _host_prefixes(ipv4: IPv4Address | None, ipv6: IPv6Address | None) -> list[IPNetwork]:
    prefixes: list[IPNetwork] = []
    if ipv4 is not None:
        prefixes.append(IPv4Network(ipv4))
    if ipv6 is not None:
        prefixes.append(IPv6Network(ipv6))
    return prefixes
