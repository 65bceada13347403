"""Alias prefixes (routed to the guest) and balancer prefixes (targets of load balancers, not routed)."""

from __future__ import annotations

from services.dpservice.model.changes import AnyChange, Change, route_number
from services.dpservice.model.concern import Concern
from services.dpservice.model.errors import AlreadyExists, NotFound, RouteOfPort, RouteUnknown
from services.dpservice.model.keys import FunctionKey, RouteKey
from services.dpservice.model.rows import Function, FunctionKind, Interface, InterfaceId, IPNetwork, LocalHop
from services.dpservice.model.underlay import UnderlayAddress


class Prefixes(Concern):
    """List, Create and Delete of both kinds. All raise InterfaceUnknown 205."""

    def prefixes(self, interface_id: InterfaceId) -> list[tuple[IPNetwork, UnderlayAddress]]:
        """The alias prefixes of an interface with their underlay addresses."""
        return self._of_kind(interface_id, FunctionKind.ALIAS_PREFIX)

    def create_prefix(
        self, interface_id: InterfaceId, prefix: IPNetwork, preferred: UnderlayAddress | None
    ) -> tuple[UnderlayAddress, list[AnyChange]]:
        """Raises RouteExists 301, RouteInsert 303, UnderlayTaken 401."""
        owner = self._owner(interface_id)
        self._check_new_route(owner.vni, prefix)
        self._check_underlay(preferred)
        underlay = self._underlay(preferred)
        function = Function(FunctionKind.ALIAS_PREFIX, owner.vni, owner.port, prefix)
        changes: list[AnyChange] = [
            Change(FunctionKey(underlay), None, function),
            Change(RouteKey(owner.vni, prefix), None, LocalHop(owner.port)),
        ]
        return underlay, self._commit(changes)

    def delete_prefix(self, interface_id: InterfaceId, prefix: IPNetwork) -> list[AnyChange]:
        """Raises RouteUnknown 302, RouteOfPort 304, NotFound 201."""
        owner = self._owner(interface_id)
        hop = self._hop(owner.vni, prefix)
        if hop is None:
            raise RouteUnknown(f"VNI {owner.vni} has no {prefix}")
        if hop != LocalHop(owner.port):
            raise RouteOfPort(f"{prefix} of VNI {owner.vni} belongs to another port")
        underlay = self._find(owner, FunctionKind.ALIAS_PREFIX, prefix)
        if underlay is None:
            raise NotFound(f"interface {interface_id} has no alias prefix {prefix}")
        return self._commit([Change(RouteKey(owner.vni, prefix), hop, None), self._function_gone(underlay)])

    def balancer_prefixes(self, interface_id: InterfaceId) -> list[tuple[IPNetwork, UnderlayAddress]]:
        """The balancer prefixes of an interface with their underlay addresses."""
        return self._of_kind(interface_id, FunctionKind.BALANCER_PREFIX)

    def create_balancer_prefix(
        self, interface_id: InterfaceId, prefix: IPNetwork, preferred: UnderlayAddress | None
    ) -> tuple[UnderlayAddress, list[AnyChange]]:
        """Raises AlreadyExists 202, UnderlayTaken 401. Other interfaces may have the same prefix."""
        owner = self._owner(interface_id)
        if self._find(owner, FunctionKind.BALANCER_PREFIX, prefix) is not None:
            raise AlreadyExists(f"interface {interface_id} has {prefix}")
        self._check_underlay(preferred)
        underlay = self._underlay(preferred)
        function = Function(FunctionKind.BALANCER_PREFIX, owner.vni, owner.port, prefix)
        return underlay, self._commit([Change(FunctionKey(underlay), None, function)])

    def delete_balancer_prefix(self, interface_id: InterfaceId, prefix: IPNetwork) -> list[AnyChange]:
        """Raises NotFound 201."""
        owner = self._owner(interface_id)
        underlay = self._find(owner, FunctionKind.BALANCER_PREFIX, prefix)
        if underlay is None:
            raise NotFound(f"interface {interface_id} has no balancer prefix {prefix}")
        return self._commit([self._function_gone(underlay)])

    def _of_kind(self, interface_id: InterfaceId, kind: FunctionKind) -> list[tuple[IPNetwork, UnderlayAddress]]:
        functions = self.tables.functions_of[self._owner(interface_id).port]
        found = [
            (function.prefix, underlay)
            for underlay, function in functions.items()
            if function.kind is kind and function.prefix is not None
        ]
        return sorted(found, key=lambda row: (row[0].version, route_number(row[0])))

    def _find(self, owner: Interface, kind: FunctionKind, prefix: IPNetwork) -> UnderlayAddress | None:
        functions = self.tables.functions_of[owner.port].items()
        found = (underlay for underlay, each in functions if each.kind is kind and each.prefix == prefix)
        return next(found, None)
