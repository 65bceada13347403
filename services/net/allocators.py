"""What has one owner in the whole network: VNIs, and addresses within a network.

Both are index keys written in the same transaction as their owner, so they can neither leak nor be given out twice.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence

from services.apimachinery.errors import Conflict
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.allocation import Index
from services.net.model.vni import free_vni

VNIS = "vni/"


class NetworkNumbers:
    """Gives every network a VNI."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def claims(self, tree: Tree) -> Sequence[str]:
        """The network's number, once it has one."""
        vni = tree.get("spec", {}).get("id")
        return [VNIS + vni] if vni else []

    async def allocate(self, tree: Tree, old: Tree | None, index: Index) -> None:
        """Chooses a free number for a network without; Conflict when all are taken."""
        spec = tree.setdefault("spec", {})
        if spec.get("id"):
            return
        taken = {int(key) for key in await index.taken(VNIS)}
        taken |= {int(key.removeprefix(VNIS)) for key in index.collided}
        vni = free_vni(taken, self._low, self._high, random.randint(self._low, self._high))
        if vni is None:
            raise Conflict(f"spec.id: all network numbers from {self._low} to {self._high} are taken")
        spec["id"] = str(vni)


class InterfaceAddresses:
    """Lets an address of a network belong to one interface only."""

    def claims(self, tree: Tree) -> Sequence[str]:
        """One key for each address of the interface."""
        spec = tree["spec"]
        scope = f"address/{tree['metadata']['namespace']}/{spec['networkRef']['name']}"
        return [f"{scope}/{ipaddress.ip_address(address)}" for address in spec.get("ips", [])]

    async def allocate(self, tree: Tree, old: Tree | None, index: Index) -> None:
        """Addresses are always given by the writer."""
