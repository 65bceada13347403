"""Values that have one owner in the whole server (a VNI, an address, a NAT slot), decided in the owner's transaction.

A service gives a kind an `Allocator`. Which index keys an object holds is a pure function of the object (`claims`), so
that they can't leak: the pipeline creates those that a write adds, removes those that it drops, and removes all of them
with the object, each in the same etcd transaction as the object itself. `allocate` fills in values that the writer left
open; when another server took a proposed value in the meantime, the pipeline asks again.

    class NetworkIds:
        def claims(self, tree):
            return [f"vni/{tree['status']['vni']}"] if "vni" in tree.get("status", {}) else []

        async def allocate(self, tree, old, index):
            if old is None:
                tree.setdefault("status", {})["vni"] = await self._free(index)

Values in the status can be filled in too: the pipeline calls `allocate` after it has isolated the status.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.apimachinery.schema.schema import Tree
from services.apimachinery.store.etcd import Etcd

ATTEMPTS = 16  # proposals that may collide before the caller gets a Conflict


class Index:
    """What an allocator may look at: the index keys of the server, and the proposals that have just collided."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self.collided: set[str] = set()

    async def taken(self, prefix: str) -> set[str]:
        """The keys below `prefix` ("vni/"), without it."""
        start = self._etcd.index_key(prefix)
        found = await self._etcd.range(start, keys_only=True)
        return {item.key[len(start) :].decode() for item in found.items}

    async def owner(self, key: str) -> str | None:
        """Who holds a key ("networks.core.apinet.ironcore.dev default/blue <uid>"), None when it is free."""
        found, _ = await self._etcd.get(self._etcd.index_key(key))
        return found.value.decode() if found else None


class Allocator(Protocol):
    """Gives a kind's objects values that nobody else has."""

    def claims(self, tree: Tree) -> Sequence[str]:
        """The index keys that this object holds ("vni/200"); depends on the object alone."""
        ...

    async def allocate(self, tree: Tree, old: Tree | None, index: Index) -> None:
        """Fills in open values of `tree`; `old` is the stored object of an update.

        `index.collided` names proposals that were taken since. Raises ApiError (Conflict) when nothing is free. A value
        that the writer asked for and somebody has is refused by the pipeline, naming the owner.
        """
        ...
