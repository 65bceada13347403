"""The stored objects of one resource as JSON trees: keys, codec, encryption, watch cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson

from services.apimachinery.kinds import Kind
from services.apimachinery.schema.converter import from_tree, to_tree
from services.apimachinery.schema.schema import Tree
from services.apimachinery.store.etcd import Etcd, KeyValue, Write
from services.apimachinery.store.value import PROTO, Encryption, Unreadable, pack, unpack
from services.apimachinery.store.watch_cache import Item, WatchCache

T = TypeVar("T")


class Storage:
    """Objects of `kind` in etcd. `lifetime` (seconds) lets each expire after its last write; 0 = never."""

    def __init__(self, etcd: Etcd, kind: Kind[Any], *, encryption: Encryption | None = None, lifetime: int = 0) -> None:
        self.etcd, self.kind, self.lifetime = etcd, kind, lifetime
        self._encryption = encryption
        place = f"{kind.group or 'core'}/{kind.plural}"
        self._prefix = f"{etcd.prefix}/{place}/"
        self.touch = f"{etcd.prefix}/revision/{place}".encode()
        self.cache = WatchCache(etcd, self.prefix, self.touch, expires=lifetime > 0)

    @property
    def prefix(self) -> bytes:
        """What all keys of the resource start with."""
        return self._prefix.encode()

    def key(self, namespace: str, name: str) -> bytes:
        """The etcd key of one object."""
        return f"{self._prefix}{self.item_name(namespace, name)}".encode()

    @staticmethod
    def item_name(namespace: str, name: str) -> str:
        """The name of one object in the watch cache."""
        return f"{namespace}/{name}" if namespace else name

    def item(self, found: KeyValue) -> Item:
        """What a range returned, as the cache's item when the cache has the same version (its JSON may be made)."""
        name = found.key[len(self._prefix) :].decode()
        cached = self.cache.get(name)
        if cached is not None and cached.revision == found.revision:
            return cached
        return Item(name, found.value, found.revision, found.created)

    async def read(self, namespace: str, name: str) -> Item | None:
        """The newest version of one object."""
        found, _ = await self.etcd.get(self.key(namespace, name))
        return self.item(found) if found is not None else None

    def tree(self, item: Item) -> Tree:
        """An object with its resourceVersion. Raises Unreadable."""
        tree = to_tree(self.message(item))
        tree["metadata"]["resourceVersion"] = str(item.revision)
        return tree

    def message(self, item: Item) -> Any:
        """An object as a message of the stored kind, without resourceVersion. Raises Unreadable."""
        codec, payload = unpack(self.opened(item))
        if codec != PROTO:
            raise Unreadable(f"{item.name}: stored with codec {codec!r}, expected {PROTO!r}")
        return self.kind.message.FromString(payload)

    def opened(self, item: Item) -> bytes:
        """The stored value, decrypted if it is encrypted. Raises Unreadable."""
        if self._encryption is None:
            return item.value
        return self._encryption.open(item.value, f"{self._prefix}{item.name}".encode())

    def encode(self, tree: Tree) -> bytes:
        """The bytes to store for an object."""
        metadata = {name: value for name, value in tree["metadata"].items() if name != "resourceVersion"}
        payload = from_tree(self.kind, {**tree, "metadata": metadata}).SerializeToString(deterministic=True)
        value = pack(PROTO, payload)
        if self._encryption is None:
            return value
        return self._encryption.seal(value, self.key(metadata.get("namespace", ""), metadata["name"]))

    async def write(
        self,
        tree: Tree,
        expected: int,
        *,
        claims: Sequence[str] = (),
        releases: Sequence[str] = (),
        guards: Mapping[bytes, int] | None = None,
    ) -> Item:
        """Stores an object in place of version `expected` (0 = it must be new).

        Raises Mismatch, Taken, GuardChanged.
        """
        metadata = tree["metadata"]
        lease = await self.etcd.lease(self.lifetime) if self.lifetime else 0
        key, owner = self.key(metadata.get("namespace", ""), metadata["name"]), self.owner(tree)
        value = self.encode(tree)
        write = Write(key, value, expected, self.touch, owner, claims, releases, lease, guards or {})
        return self._written(tree, value, await self.etcd.commit(write))

    async def remove(self, tree: Tree, expected: int, *, releases: Sequence[str] = ()) -> int:
        """Removes version `expected` of an object and its index keys. Raises Mismatch."""
        metadata = tree["metadata"]
        key = self.key(metadata.get("namespace", ""), metadata["name"])
        return await self.etcd.commit(Write(key, None, expected, self.touch, self.owner(tree), (), releases))

    def unwritten(self, tree: Tree, revision: int) -> Item:
        """What `write` would have stored: the answer of a dry run."""
        return self._written(tree, self.encode(tree), revision)

    def _written(self, tree: Tree, value: bytes, revision: int) -> Item:
        metadata = tree["metadata"]
        return Item(self.item_name(metadata.get("namespace", ""), metadata["name"]), value, revision, revision)

    def owner(self, tree: Tree) -> str:
        """How index keys name their owner: resource, name and uid."""
        metadata = tree["metadata"]
        name = self.item_name(metadata.get("namespace", ""), metadata["name"])
        return f"{self.kind.resource} {name} {metadata['uid']}"


def copied(tree: T) -> T:
    """A deep copy of a JSON tree (copy.deepcopy takes five times as long)."""
    if isinstance(tree, dict):
        return {name: copied(value) if type(value) in (dict, list) else value for name, value in tree.items()}  # type: ignore[return-value]
    if isinstance(tree, list):
        return [copied(value) if type(value) in (dict, list) else value for value in tree]  # type: ignore[return-value]
    return tree


def dumps(tree: Any) -> bytes:
    """JSON as it goes over the wire."""
    return orjson.dumps(tree)
