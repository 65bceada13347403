"""Garbage collection: an object whose owners are all gone is deleted; foreground and orphan deletion do their part.

An owner counts as gone when no object of its kind, name and uid is stored (looked up in the store itself, not in the
cache). An owner of a kind that this server does not have is left to whoever has it: the object stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from services.apimachinery.controllers.follow import follow, stored_once, work
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.queue import WorkQueue
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.loopback import Loopback
from services.apimachinery.server.metadata import FOREGROUND, ORPHAN
from services.apimachinery.server.resource import Resource
from services.apimachinery.store.watch_cache import DELETED, Event, Item
from services.common.logs import get_logger

log = get_logger(__name__)

WORKERS = 4


class _Key(NamedTuple):
    resource: Resource
    name: str  # as in the watch cache


class _Owner(Enum):
    GONE = 0
    PRESENT = 1
    DELETING_DEPENDENTS = 2
    UNKNOWN = 3


async def collect_garbage(loopback: Loopback) -> None:
    """Runs for ever."""
    await _Collector(loopback).run()


class _Collector:
    def __init__(self, loopback: Loopback) -> None:
        self._loopback = loopback
        self._resources = stored_once(list(loopback.resources))
        self._queue: WorkQueue[_Key] = WorkQueue("garbage-collector")
        self._dependents: dict[str, set[_Key]] = {}  # by the owner's uid
        self._owners: dict[_Key, tuple[str, ...]] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self._resources, self._seen), name="follow")
            for number in range(WORKERS):
                group.create_task(work(self._queue, self._reconcile), name=f"worker {number}")

    def _seen(self, resource: Resource, event: Event) -> None:
        key = _Key(resource, event.item.name)
        metadata = resource.stored.message(event.item).metadata
        gone = event.type == DELETED
        for uid in self._owners.pop(key, ()):
            dependents = self._dependents.get(uid, set())
            dependents.discard(key)
            if not dependents:
                self._dependents.pop(uid, None)
        if gone:
            for dependent in self._dependents.get(metadata.uid, ()):
                self._queue.add(dependent)
            for owner in metadata.owner_references:
                self._wake_owner(owner, metadata.namespace)
            return
        owners = tuple(reference.uid for reference in metadata.owner_references)
        if owners:
            self._owners[key] = owners
            for uid in owners:
                self._dependents.setdefault(uid, set()).add(key)
        deleting = metadata.HasField("deletion_timestamp")
        if (deleting and {FOREGROUND, ORPHAN} & set(metadata.finalizers)) or owners:
            self._queue.add(key)

    def _wake_owner(self, owner: Any, namespace: str) -> None:
        """An owner may wait for this dependent (foreground deletion)."""
        resource = self._resource(owner.api_version, owner.kind)
        if resource is not None:
            place = namespace if resource.kind.namespaced else ""
            self._queue.add(_Key(resource, resource.stored.item_name(place, owner.name)))

    async def _reconcile(self, key: _Key) -> None:
        tree = await self._read(key)
        if tree is None:
            return
        metadata = tree["metadata"]
        if "deletionTimestamp" in metadata:
            if ORPHAN in metadata.get("finalizers", ()):
                await self._orphan_dependents(key, tree)
            elif FOREGROUND in metadata.get("finalizers", ()):
                await self._delete_dependents(key, tree)
            return
        await self._delete_without_owners(key, tree)

    async def _delete_without_owners(self, key: _Key, tree: Tree) -> None:
        references = tree["metadata"].get("ownerReferences", [])
        states = [await self._owner(reference, tree["metadata"].get("namespace", "")) for reference in references]
        if not references or _Owner.UNKNOWN in states:
            return
        if _Owner.PRESENT in states:
            gone = [ref["uid"] for ref, state in zip(references, states, strict=True) if state is _Owner.GONE]
            if gone:
                await self._change(key, lambda found: _drop_owners(found, gone))
            return
        # The owner that deletes in the foreground waits for this object's own dependents, too.
        how = "Foreground" if _Owner.DELETING_DEPENDENTS in states else "Background"
        await self._loopback.delete(key.resource, tree, how)
        log.info("dependent deleted", resource=key.resource.kind.resource, object=key.name)

    async def _delete_dependents(self, key: _Key, tree: Tree) -> None:
        blocking = 0
        async for dependent, reference in self._dependents_of(tree["metadata"]["uid"]):
            found = await self._read(dependent)
            if found is None:
                continue
            blocking += bool(reference.block_owner_deletion)
            if "deletionTimestamp" not in found["metadata"]:
                self._queue.add(dependent)
        if not blocking:
            await self._change(key, lambda found: _drop_finalizer(found, FOREGROUND))

    async def _orphan_dependents(self, key: _Key, tree: Tree) -> None:
        uid = tree["metadata"]["uid"]
        async for dependent, _ in self._dependents_of(uid):
            await self._change(dependent, lambda found: _drop_owners(found, [uid]))
        await self._change(key, lambda found: _drop_finalizer(found, ORPHAN))

    async def _dependents_of(self, uid: str) -> Any:
        """All objects that name the owner, nothing written before this call missed."""
        for resource in self._resources:
            await resource.stored.cache.fresh()
        for key, item in self._items():
            for reference in key.resource.stored.message(item).metadata.owner_references:
                if reference.uid == uid:
                    yield key, reference

    def _items(self) -> Iterator[tuple[_Key, Item]]:
        for resource in self._resources:
            for item in list(resource.stored.cache.select()):
                yield _Key(resource, item.name), item

    async def _owner(self, reference: Tree, namespace: str) -> _Owner:
        resource = self._resource(reference["apiVersion"], reference["kind"])
        if resource is None:
            return _Owner.UNKNOWN
        place = namespace if resource.kind.namespaced else ""
        name = resource.stored.item_name(place, reference["name"])
        owner = await self._read(_Key(resource, name))
        if owner is None or owner["metadata"]["uid"] != reference["uid"]:
            return _Owner.GONE
        finalizers = owner["metadata"].get("finalizers", ())
        if "deletionTimestamp" in owner["metadata"] and FOREGROUND in finalizers:
            return _Owner.DELETING_DEPENDENTS
        return _Owner.PRESENT

    def _resource(self, api_version: str, kind: str) -> Resource | None:
        group, _, version = api_version.rpartition("/")
        return self._loopback.resources.named(group, version, kind)

    async def _read(self, key: _Key) -> Tree | None:
        namespace, _, name = key.name.rpartition("/")
        return await self._loopback.get(key.resource, name, namespace)

    async def _change(self, key: _Key, change: Callable[[Tree], None]) -> None:
        namespace, _, name = key.name.rpartition("/")
        try:
            await self._loopback.change(key.resource, name, namespace, change)
        except NotFound:
            pass


def _drop_owners(tree: Tree, uids: Sequence[str]) -> None:
    metadata = tree["metadata"]
    metadata["ownerReferences"] = [ref for ref in metadata.get("ownerReferences", ()) if ref["uid"] not in uids]


def _drop_finalizer(tree: Tree, finalizer: str) -> None:
    metadata = tree["metadata"]
    metadata["finalizers"] = [name for name in metadata.get("finalizers", ()) if name != finalizer]
