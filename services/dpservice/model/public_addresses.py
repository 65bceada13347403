"""Public addresses of interfaces: VIPs, their own, and slices of shared ones (NAT)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from services.dpservice.model.changes import AnyChange, Change
from services.dpservice.model.concern import Concern
from services.dpservice.model.errors import (
    HasPublicAddress,
    NoPublicAddress,
    PublicAddressExists,
    PublicAddressLimit,
    WrongIpVersion,
)
from services.dpservice.model.hashing import local_nat_bucket
from services.dpservice.model.keys import FunctionKey, NatKey, PublicKey, VipKey
from services.dpservice.model.rows import Function, FunctionKind, Interface, InterfaceId, IPAddress, NatSlice, Vip
from services.dpservice.model.underlay import UnderlayAddress

ALL: Final = IPv4Address(0)
"""Asks a list for every public address."""


@dataclass(frozen=True)
class LocalNat:
    """A slice with the interface that has it."""

    owner: Interface
    nat: NatSlice


class PublicAddresses(Concern):
    """VIPs and local NAT slices. All but the list raise InterfaceUnknown 205."""

    def vip(self, interface_id: InterfaceId) -> Vip:
        """Raises NoPublicAddress 341."""
        self._owner(interface_id)
        if interface_id not in self.tables.vips:
            raise NoPublicAddress(f"interface {interface_id} has no VIP")
        return self.tables.vips[interface_id]

    def create_vip(
        self, interface_id: InterfaceId, address: IPAddress, preferred: UnderlayAddress | None
    ) -> tuple[Vip, list[AnyChange]]:
        """Raises WrongIpVersion 204, UnderlayTaken 401, HasPublicAddress 343, PublicAddressExists 323,
        PublicAddressLimit 322."""
        owner = self._owner(interface_id)
        ipv4 = public_ipv4(address)
        self._check_underlay(preferred)
        if interface_id in self.tables.vips:
            raise HasPublicAddress(f"interface {interface_id} has a VIP")
        key = PublicKey(owner.vni, ipv4)
        if key in self.tables.vip_owners or key in self.tables.nat_users:
            raise PublicAddressExists(f"{address} is in use in VNI {owner.vni}")
        check_publics(self, key)
        vip = Vip(ipv4, self._underlay(preferred))
        function = Function(FunctionKind.VIP, owner.vni, owner.port)
        changes: list[AnyChange] = [
            Change(FunctionKey(vip.underlay), None, function),
            Change(VipKey(interface_id), None, vip),
        ]
        return vip, self._commit(changes)

    def delete_vip(self, interface_id: InterfaceId) -> list[AnyChange]:
        """Raises NoPublicAddress 341."""
        vip = self.vip(interface_id)
        return self._commit([Change(VipKey(interface_id), vip, None), self._function_gone(vip.underlay)])

    def nat(self, interface_id: InterfaceId) -> NatSlice:
        """Raises NoPublicAddress 341."""
        self._owner(interface_id)
        if interface_id not in self.tables.nats:
            raise NoPublicAddress(f"interface {interface_id} has no NAT")
        return self.tables.nats[interface_id]

    def create_nat(
        self,
        interface_id: InterfaceId,
        address: IPAddress,
        min_port: int,
        max_port: int,
        preferred: UnderlayAddress | None,
    ) -> tuple[NatSlice, list[AnyChange]]:
        """Slices of one host may overlap; so may a VIP have the address, which then stays the VIP's.

        Raises WrongIpVersion 204, UnderlayTaken 401, HasPublicAddress 343, PublicAddressLimit 322.
        """
        owner = self._owner(interface_id)
        ipv4 = public_ipv4(address)
        self._check_underlay(preferred)
        if interface_id in self.tables.nats:
            raise HasPublicAddress(f"interface {interface_id} has a NAT")
        check_publics(self, PublicKey(owner.vni, ipv4))
        nat = NatSlice(ipv4, min_port, max_port, self._underlay(preferred))
        function = Function(FunctionKind.NAT, owner.vni, owner.port)
        changes: list[AnyChange] = [
            Change(FunctionKey(nat.underlay), None, function),
            Change(NatKey(interface_id), None, nat),
        ]
        return nat, self._commit(changes)

    def delete_nat(self, interface_id: InterfaceId) -> list[AnyChange]:
        """The address stays known while another interface or a neighbor has a slice of it.

        Raises NoPublicAddress 341.
        """
        nat = self.nat(interface_id)
        return self._commit([Change(NatKey(interface_id), nat, None), self._function_gone(nat.underlay)])

    def local_nats(self, address: IPAddress) -> list[LocalNat]:
        """Slices of an address, of all for 0.0.0.0, in the order that the original's table gives.

        Raises WrongIpVersion 204.
        """
        wanted = public_ipv4(address)
        found = [
            LocalNat(self.tables.interfaces[owner], nat)
            for owner, nat in self.tables.nats.items()
            if wanted in (ALL, nat.address)
        ]
        return sorted(found, key=lambda each: local_nat_bucket(each.owner.ipv4 or ALL, each.owner.vni))


def public_ipv4(address: IPAddress) -> IPv4Address:
    """Public addresses are IPv4. Raises WrongIpVersion 204."""
    if not isinstance(address, IPv4Address):
        raise WrongIpVersion(f"{address} is not IPv4")
    return address


def check_publics(concern: Concern, key: PublicKey) -> None:
    """Is there room for a public address? Raises PublicAddressLimit 322."""
    owners, users = concern.tables.vip_owners, concern.tables.nat_users
    if key not in owners and key not in users and len(owners) + len(users) >= concern.limits.publics:
        raise PublicAddressLimit(f"{concern.limits.publics} public addresses are in use")
