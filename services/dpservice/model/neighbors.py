"""Neighbor NAT: slices of shared public addresses that other hosts own, to which packets are relayed."""

from __future__ import annotations

from services.dpservice.model.changes import AnyChange, Change
from services.dpservice.model.concern import Concern
from services.dpservice.model.errors import AlreadyExists, NotFound, OutOfMemory
from services.dpservice.model.keys import NeighborKey, PublicKey
from services.dpservice.model.public_addresses import ALL, check_publics, public_ipv4
from services.dpservice.model.rows import IPAddress, Neighbor, Vni
from services.dpservice.model.underlay import UnderlayAddress


class Neighbors(Concern):
    """List, Create and Delete. All raise WrongIpVersion 204."""

    def neighbors(self, address: IPAddress) -> list[tuple[NeighborKey, Neighbor]]:
        """Slices of an address, of all for 0.0.0.0, in the order in which they came."""
        wanted = public_ipv4(address)
        if wanted == ALL:
            return list(self.tables.neighbors.items())
        return [(key, self.tables.neighbors[key]) for key in self.tables.neighbors_of.get(wanted, [])]

    def create_neighbor(
        self, vni: Vni, address: IPAddress, min_port: int, max_port: int, underlay: UnderlayAddress
    ) -> list[AnyChange]:
        """Raises AlreadyExists 202 for an overlap with another slice of the address in any VNI, OutOfMemory 208,
        PublicAddressLimit 322."""
        ipv4 = public_ipv4(address)
        for other in self.tables.neighbors_of.get(ipv4, []):
            if min_port < other.max_port and other.min_port < max_port:
                raise AlreadyExists(f"{address} ports {other.min_port}-{other.max_port} belong to a neighbor")
        if len(self.tables.neighbors) >= self.limits.neighbors:
            raise OutOfMemory(f"{self.limits.neighbors} neighbor NATs are known")
        check_publics(self, PublicKey(vni, ipv4))
        key = NeighborKey(vni, ipv4, min_port, max_port)
        return self._commit([Change(key, None, Neighbor(underlay))])

    def delete_neighbor(self, vni: Vni, address: IPAddress, min_port: int, max_port: int) -> list[AnyChange]:
        """Raises NotFound 201."""
        key = NeighborKey(vni, public_ipv4(address), min_port, max_port)
        if key not in self.tables.neighbors:
            raise NotFound(f"no neighbor has ports {min_port}-{max_port} of {address} in VNI {vni}")
        return self._commit([Change(key, self.tables.neighbors[key], None)])
