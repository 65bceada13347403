"""Index keys of allocated ranges: the store itself refuses to give an address of a prefix to a second owner.

Controllers decide under a lease, which a process that stalls at the wrong moment can outlive; these keys are written
in the transaction of the allocation and can't be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.apimachinery.schema.schema import Tree
from services.core.model.addresses import network_of

if TYPE_CHECKING:
    from services.apimachinery.server.allocation import Index

MOST_KEYS: Final = 64
"""A range of up to so many addresses has a key for each, a larger one for its first: a transaction is bounded (128)."""


class PrefixAllocationIndex:
    """The allocator of PrefixAllocation: the range is chosen by the prefix controller, here it gets its one owner."""

    def claims(self, tree: Tree) -> list[str]:
        """`prefix/<namespace>/<prefix>/<address>` for the addresses of an allocated range."""
        given = network_of(tree.get("status", {}).get("prefix", ""))
        parent = tree.get("spec", {}).get("prefixRef", {}).get("name", "")
        if given is None or not parent:
            return []
        count = given.num_addresses if given.num_addresses <= MOST_KEYS else 1
        start = f"prefix/{tree['metadata']['namespace']}/{parent}"
        return [f"{start}/{given.network_address + offset}" for offset in range(count)]

    async def allocate(self, tree: Tree, old: Tree | None, index: Index) -> None:
        """Nothing is left open."""
