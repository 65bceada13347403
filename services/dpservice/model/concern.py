"""What the rules of all concerns share: the tables, the limits, and the checks that several of them make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.dpservice.model.changes import AnyChange, Change, RouteChanges, route_number
from services.dpservice.model.errors import InterfaceUnknown, RouteExists, RouteInsert, UnderlayTaken, VniLimit
from services.dpservice.model.keys import FunctionKey
from services.dpservice.model.rows import Hop, Interface, InterfaceId, IPNetwork, Vni
from services.dpservice.model.tables import Tables
from services.dpservice.model.underlay import UnderlayAddress, UnderlayAllocator


@dataclass(frozen=True)
class Limits:
    """What the tables hold; `routes` counts those of a family in all VNIs, interfaces' own included.

    `publics` counts VIPs and addresses shared by NAT, `targets` those of one balancer. The defaults are what the packet
    programs' maps have room for.
    """

    routes: int = 65536
    underlay: int = 8192
    vnis: int = 16384
    publics: int = 4096
    neighbors: int = 65536
    balancers: int = 256
    targets: int = 64
    rules: int = 1024  # of a port and direction


class Concern:
    """Base of the classes that `Model` is made of, one for each concern of the API.

    Every mutator checks in the order that clients know, raises a `Refusal` before anything is touched, and returns the
    changes it made.
    """

    def __init__(
        self,
        devices: Sequence[str],
        uplinks: Sequence[str],
        allocator: UnderlayAllocator,
        limits: Limits | None = None,
        *,
        accept_only: bool = False,
    ) -> None:
        self.tables = Tables()
        self.devices = tuple(devices)
        self.allocator = allocator
        self.limits = limits or Limits()
        self.accept_only = accept_only
        self._uplinks = frozenset(uplinks)
        self._device_order = {device: index for index, device in enumerate(self.devices)}

    def _commit(self, changes: list[AnyChange]) -> list[AnyChange]:
        self.tables.put_all(changes)
        return changes

    def _owner(self, interface_id: InterfaceId) -> Interface:
        owner = self.tables.interfaces.get(interface_id)
        if owner is None:
            raise InterfaceUnknown(f"no interface {interface_id}")
        return owner

    def _check_underlay(self, preferred: UnderlayAddress | None) -> None:
        if preferred is not None and preferred in self.tables.functions:
            raise UnderlayTaken(f"{preferred} is taken")
        if len(self.tables.functions) >= self.limits.underlay:
            raise UnderlayTaken(f"all {self.limits.underlay} underlay addresses are in use")

    def _underlay(self, preferred: UnderlayAddress | None) -> UnderlayAddress:
        return preferred or self.allocator.generate(self.tables.functions.__contains__)

    def _check_vni(self, vni: Vni) -> None:
        if vni not in self.tables.vni_users and len(self.tables.vni_users) >= self.limits.vnis:
            raise VniLimit(f"{self.limits.vnis} VNIs are in use")

    def _check_new_route(self, vni: Vni, prefix: IPNetwork) -> None:
        if self._hop(vni, prefix) is not None:
            raise RouteExists(f"VNI {vni} has {prefix}")
        if self.tables.route_count[prefix.version] >= self.limits.routes:
            raise RouteInsert(f"the table of {self.limits.routes} IPv{prefix.version} routes is full")

    def _hop(self, vni: Vni, prefix: IPNetwork) -> Hop | None:
        return self.tables.routes.get((vni, prefix.version), {}).get(route_number(prefix))

    def _end_of_vni(self, vni: Vni) -> list[AnyChange]:
        """What goes with the last user of a VNI: its routes and neighbors."""
        if self.tables.vni_users[vni] > 1:
            return []
        changes: list[AnyChange] = [
            RouteChanges(vni, version, dict(self.tables.routes[vni, version]), {})
            for version in (4, 6)
            if (vni, version) in self.tables.routes
        ]
        changes += self._neighbors_gone(vni)
        return changes

    def _neighbors_gone(self, vni: Vni | None = None) -> list[AnyChange]:
        return [
            Change(key, neighbor, None)
            for key, neighbor in self.tables.neighbors.items()
            if vni is None or key.vni == vni
        ]

    def _function_gone(self, underlay: UnderlayAddress) -> Change:
        return Change(FunctionKey(underlay), self.tables.functions[underlay], None)
