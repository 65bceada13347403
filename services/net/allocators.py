"""What has one owner in the whole network: VNIs, and addresses within a network.

Both are index keys written in the same transaction as their owner, so they can neither leak nor be given out twice.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from services.apimachinery.errors import Conflict
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.allocation import Index
from services.net.model.hooks import canonical
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
        """Chooses a free number for a network without; Conflict when all are taken.

        A writer who leaves the number out of an update keeps it.
        """
        spec = tree.setdefault("spec", {})
        if not spec.get("id") and old is not None:
            spec["id"] = old["spec"]["id"]
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
        """One key for each address of the interface. Asked before validation, of what may not be valid at all."""
        spec = tree.get("spec", {})
        network = spec.get("networkRef", {}).get("name")
        addresses = [canonical(address) for address in spec.get("ips", [])]
        scope = f"address/{tree['metadata']['namespace']}/{network}"
        return [f"{scope}/{address}" for address in addresses if address and network]

    async def allocate(self, tree: Tree, old: Tree | None, index: Index) -> None:
        """Addresses are always given by the writer."""
