"""Load balancers and their targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from itertools import count
from typing import Final

from services.dpservice.model.changes import AnyChange, Change
from services.dpservice.model.concern import Concern
from services.dpservice.model.errors import (
    AlreadyExists,
    BalancerUnknown,
    NotFound,
    OutOfMemory,
    TargetLimit,
    WrongIpVersion,
)
from services.dpservice.model.keys import BalancerKey, FunctionKey
from services.dpservice.model.rows import (
    Balancer,
    BalancerId,
    BalancerNumber,
    Function,
    FunctionKind,
    IPAddress,
    PortNumber,
    Protocol,
    Vni,
)
from services.dpservice.model.underlay import UnderlayAddress

NO_PORT: Final = PortNumber(0)


@dataclass(frozen=True)
class NewBalancer:
    """A readable CreateLoadBalancer request; `preferred` was accepted by the allocator."""

    id: BalancerId
    vni: Vni
    address: IPAddress
    ports: tuple[tuple[int, Protocol], ...] = ()
    preferred: UnderlayAddress | None = None


class Balancers(Concern):
    """Get, List, Create and Delete of balancers; List, Create and Delete of targets."""

    def balancer(self, balancer_id: BalancerId) -> tuple[BalancerKey, Balancer]:
        """Raises NotFound 201."""
        key = self.tables.balancer_of_id.get(balancer_id)
        if key is None:
            raise NotFound(f"no load balancer {balancer_id}")
        return key, self.tables.balancers[key]

    def balancers(self) -> list[tuple[BalancerKey, Balancer]]:
        """In the order in which they came."""
        return list(self.tables.balancers.items())

    def create_balancer(self, request: NewBalancer) -> tuple[Balancer, list[AnyChange]]:
        """Raises UnderlayTaken 401, AlreadyExists 202 (for the address in its VNI, and for the id), OutOfMemory 208,
        VniLimit 361."""
        self._check_underlay(request.preferred)
        key = BalancerKey(request.vni, request.address)
        if key in self.tables.balancers:
            raise AlreadyExists(f"{request.address} of VNI {request.vni} is balanced")
        if request.id in self.tables.balancer_of_id:
            raise AlreadyExists(f"load balancer {request.id} exists")
        if len(self.tables.balancers) >= self.limits.balancers:
            raise OutOfMemory(f"there are {self.limits.balancers} load balancers")
        self._check_vni(request.vni)
        balancer = Balancer(
            request.id, self._free_number(), request.ports, targets=(), underlay=self._underlay(request.preferred)
        )
        function = Function(FunctionKind.BALANCER, request.vni, NO_PORT, balancer=balancer.number)
        changes: list[AnyChange] = [
            Change(key, None, balancer),
            Change(FunctionKey(balancer.underlay), None, function),
        ]
        return balancer, self._commit(changes)

    def delete_balancer(self, balancer_id: BalancerId) -> list[AnyChange]:
        """Raises NotFound 201. The last user of a VNI takes the VNI's routes and neighbors along."""
        key, balancer = self.balancer(balancer_id)
        changes = self._end_of_vni(key.vni)
        changes += [self._function_gone(balancer.underlay), Change(key, balancer, None)]
        return self._commit(changes)

    def targets(self, balancer_id: BalancerId | None) -> list[IPv6Address]:
        """In ascending order; those of all balancers, one after the other, for None. Raises BalancerUnknown 422."""
        if balancer_id is None:
            return [target for balancer in self.tables.balancers.values() for target in balancer.targets]
        return list(self._of_target(balancer_id)[1].targets)

    def create_target(self, balancer_id: BalancerId, target: IPAddress) -> list[AnyChange]:
        """Raises WrongIpVersion 204, BalancerUnknown 422, AlreadyExists 202, TargetLimit 423.

        The unspecified address is refused as a duplicate: the original takes it for its empty slots.
        """
        ipv6 = _target_ipv6(target)
        key, balancer = self._of_target(balancer_id)
        if ipv6 in balancer.targets or not int(ipv6):
            raise AlreadyExists(f"load balancer {balancer_id} has {target}")
        if len(balancer.targets) >= self.limits.targets:
            raise TargetLimit(f"load balancer {balancer_id} has {self.limits.targets} targets")
        return self._commit(
            [Change(key, balancer, replace(balancer, targets=tuple(sorted((*balancer.targets, ipv6)))))]
        )

    def delete_target(self, balancer_id: BalancerId, target: IPAddress) -> list[AnyChange]:
        """Raises WrongIpVersion 204, BalancerUnknown 422, NotFound 201."""
        ipv6 = _target_ipv6(target)
        key, balancer = self._of_target(balancer_id)
        if ipv6 not in balancer.targets:
            raise NotFound(f"load balancer {balancer_id} has no target {target}")
        others = tuple(each for each in balancer.targets if each != ipv6)
        return self._commit([Change(key, balancer, replace(balancer, targets=others))])

    def _of_target(self, balancer_id: BalancerId) -> tuple[BalancerKey, Balancer]:
        key = self.tables.balancer_of_id.get(balancer_id)
        if key is None:
            raise BalancerUnknown(f"no load balancer {balancer_id}")
        return key, self.tables.balancers[key]

    def _free_number(self) -> BalancerNumber:
        used = self.tables.balancer_of_number
        return next(BalancerNumber(number) for number in count() if number not in used)


def _target_ipv6(target: IPAddress) -> IPv6Address:
    if not isinstance(target, IPv6Address):
        raise WrongIpVersion(f"target {target} is not IPv6")
    return target
