"""External routes, one by one and many at once, and the VNIs that they live in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from services.dpservice.model.changes import AnyChange, Change, RouteChanges, RoutePrefix, route_number, route_prefix
from services.dpservice.model.concern import Concern
from services.dpservice.model.errors import RouteExists, RouteInsert, RouteOfPort, RouteUnknown, VniUnknown
from services.dpservice.model.interfaces import host_prefixes
from services.dpservice.model.keys import FunctionKey
from services.dpservice.model.rows import FunctionKind, Hop, IPNetwork, LocalHop, RemoteHop, Vni


class Routes(Concern):
    """List, Create and Delete of routes; in use and Reset of VNIs; Initialize."""

    initialized = False

    def routes(self, vni: Vni) -> Iterator[tuple[Vni, IPNetwork, RemoteHop]]:
        """External routes of both families; of every VNI when `vni` is 0. Raises VniUnknown 206."""
        if vni:
            self._check_known(vni)
        wanted = sorted(table for table in self.tables.routes if vni in (0, table[0]))
        return (
            (each, route_prefix(number, version), hop)
            for each, version in wanted
            for number, hop in sorted(self.tables.routes[each, version].items(), key=_number)
            if isinstance(hop, RemoteHop)
        )

    def routes_by_vni(self) -> dict[Vni, int]:
        """How many routes each VNI has, interfaces' own included."""
        tables = self.tables.routes
        return {vni: sum(len(tables.get((vni, version), {})) for version in (4, 6)) for vni in self.tables.vni_users}

    def create_route(self, vni: Vni, prefix: RoutePrefix, hop: RemoteHop) -> list[AnyChange]:
        """Raises VniUnknown 206, RouteExists 301, RouteInsert 303."""
        return self.apply_routes(vni, prefix.version, (), {prefix.number: hop})

    def delete_route(self, vni: Vni, prefix: RoutePrefix) -> list[AnyChange]:
        """Raises VniUnknown 206, RouteUnknown 302, RouteOfPort 304."""
        return self.apply_routes(vni, prefix.version, (prefix.number,), {})

    def apply_routes(self, vni: Vni, version: int, removed: Sequence[int], added: Mapping[int, Hop]) -> list[AnyChange]:
        """Many routes at once, all or none; routes are numbered. What is removed may be added again.

        Raises VniUnknown 206, RouteUnknown 302, RouteOfPort 304, RouteExists 301, RouteInsert 303.
        """
        self._check_known(vni)
        tables = self.tables
        hops = tables.routes.get((vni, version), {})
        before: dict[int, Hop] = {}
        for number in removed:
            hop = hops.get(number)
            if hop is None:
                raise RouteUnknown(f"VNI {vni} has no {route_prefix(number, version)}")
            if isinstance(hop, LocalHop):
                raise RouteOfPort(f"{route_prefix(number, version)} of VNI {vni} belongs to a guest port")
            before[number] = hop
        taken = added.keys() & hops.keys()
        if taken and (taken := taken - before.keys()):
            raise RouteExists(f"VNI {vni} has {route_prefix(min(taken), version)}")
        if tables.route_count[version] - len(before) + len(added) > self.limits.routes:
            raise RouteInsert(f"the table of {self.limits.routes} IPv{version} routes can't take {len(added)} more")
        return self._commit([RouteChanges(vni, version, before, dict(added))] if before or added else [])

    def uses(self, vni: Vni) -> bool:
        """Is an interface or a load balancer of this host in the VNI?"""
        return vni in self.tables.vni_users

    def reset_vni(self, vni: Vni) -> list[AnyChange]:
        """Leaves the VNI only its interfaces' own addresses; an unknown VNI is none to reset."""
        return self._commit(self._reset({vni}))

    def initialize(self) -> list[AnyChange]:
        """Resets every VNI and forgets all neighbors; interfaces and what they own survive."""
        self.initialized = True
        return self._commit(self._reset(self.tables.vni_users.keys()) + self._neighbors_gone())

    def _check_known(self, vni: Vni) -> None:
        if vni not in self.tables.vni_users:
            raise VniUnknown(f"no VNI {vni}")

    def _reset(self, vnis: Collection[Vni]) -> list[AnyChange]:
        own = {
            (interface.vni, prefix.version, route_number(prefix))
            for interface in self.tables.interfaces.values()
            if interface.vni in vnis
            for prefix in host_prefixes(interface.ipv4, interface.ipv6)
        }
        changes: list[AnyChange] = []
        for (vni, version), hops in self.tables.routes.items():
            if vni in vnis:
                others = {number: hop for number, hop in hops.items() if (vni, version, number) not in own}
                if others:
                    changes.append(RouteChanges(vni, version, others, {}))
        changes += [
            Change(FunctionKey(underlay), function, None)
            for underlay, function in self.tables.functions.items()
            if function.vni in vnis and function.kind is FunctionKind.ALIAS_PREFIX
        ]
        return changes


def _number(route: tuple[int, Hop]) -> int:
    return route[0]
