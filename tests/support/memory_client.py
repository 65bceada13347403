"""A `Client` whose server is a dictionary with a history: the twin that property tests can break at will.

It passes the same contract test as the real transports. Selectors, strategic and JSON patches and server-side apply are
not built: what needs them runs against a real server.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.interface import Change, Page, Patch, WatchEvent
from services.apimachinery.client.objects import Key, key_of, metadata_of
from services.apimachinery.errors import AlreadyExists, Conflict, Gone, NotFound, Unavailable
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema.converter import from_tree, to_tree
from services.apimachinery.schema.decode import normalise

M = TypeVar("M", bound=Message)


class MemoryServer:
    """The objects of all kinds, every change since the last compaction, and the watches that can be cut."""

    def __init__(self) -> None:
        self.version = 0
        self.compacted = 0
        self.objects: dict[tuple[type[Message], Key], Message] = {}
        self.history: list[tuple[int, Change, Message]] = []
        self.reachable = True
        self._changed = asyncio.Event()
        self._epoch = 0

    def store(self, change: Change, obj: Message) -> None:
        """Writes one change under the next version."""
        self.version += 1
        metadata_of(obj).resource_version = str(self.version)
        slot = (type(obj), key_of(obj))
        if change is Change.DELETED:
            del self.objects[slot]
        else:
            self.objects[slot] = copy.deepcopy(obj)
        self.history.append((self.version, change, copy.deepcopy(obj)))
        self.wake()

    def wake(self) -> None:
        """Lets watches look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def disconnect(self) -> None:
        """Cuts all open watches."""
        self._epoch += 1
        self.wake()

    def compact(self) -> None:
        """Forgets the history so far."""
        self.compacted = self.version
        self.history.clear()

    def events_after(self, version: int) -> list[tuple[int, Change, Message]]:
        """Changes after a version; Gone when they have been compacted."""
        if version < self.compacted:
            raise Gone(f"version {version} has been compacted")
        return [event for event in self.history if event[0] > version]

    async def follow(self, version: int) -> AsyncIterator[tuple[int, Change, Message]]:
        """Changes as they happen, until cut."""
        epoch = self._epoch
        while epoch == self._epoch:
            changed = self._changed
            for event in self.events_after(version):
                version = event[0]
                yield event
                if epoch != self._epoch:
                    return
            await changed.wait()


class MemoryClient:
    """`Client` over a MemoryServer."""

    def __init__(self, server: MemoryServer | None = None) -> None:
        self.server = server or MemoryServer()

    async def get(self, kind: type[M], name: str, namespace: str = "") -> M:
        await self._travel()
        return copy.deepcopy(self._stored(kind, Key(namespace, name)))

    async def list(self, kind: type[M], namespace: str = "", *, labels: str = "", fields: str = "") -> Page[M]:
        await self._travel()
        found = [
            cast(M, copy.deepcopy(obj))
            for (of, key), obj in sorted(self.server.objects.items(), key=lambda item: item[0][1])
            if of is kind and namespace in ("", key.namespace)
        ]
        return Page(found, str(self.server.version))

    async def watch(
        self, kind: type[M], namespace: str = "", *, labels: str = "", fields: str = "", resource_version: str = ""
    ) -> AsyncIterator[WatchEvent[M]]:
        await self._travel()
        start = int(resource_version) if resource_version else self.server.version
        if not resource_version:
            for obj in (await self.list(kind, namespace)).items:
                yield WatchEvent(Change.ADDED, obj)
        async for version, change, changed in self.server.follow(start):
            if isinstance(changed, kind) and namespace in ("", metadata_of(changed).namespace):
                yield WatchEvent(change, copy.deepcopy(changed))
            elif not isinstance(changed, kind):
                yield WatchEvent(Change.BOOKMARK, kind(metadata=ObjectMeta(resource_version=str(version))))

    async def create(self, obj: M) -> M:
        await self._travel()
        new = copy.deepcopy(obj)
        metadata = metadata_of(new)
        if not metadata.name and metadata.generate_name:
            metadata.name = f"{metadata.generate_name}{self.server.version:05x}"
        if (type(new), key_of(new)) in self.server.objects:
            raise AlreadyExists(f"{metadata.name} already exists", name=metadata.name)
        metadata.uid, metadata.generation = f"uid-{self.server.version}", 1
        metadata.creation_timestamp.seconds = 1
        if kind_of(type(new)).has_status:
            new.ClearField("status")
        return await self._commit(Change.ADDED, new)

    async def update(self, obj: M) -> M:
        await self._travel()
        return await self._replace(obj, keep="status")

    async def update_status(self, obj: M) -> M:
        await self._travel()
        stored = self._stored(type(obj), key_of(obj))
        new = copy.deepcopy(stored)
        cast(Any, new).status.CopyFrom(cast(Any, obj).status)
        metadata_of(new).resource_version = metadata_of(obj).resource_version
        return await self._replace(new)

    async def patch(
        self,
        kind: type[M],
        name: str,
        patch: Mapping[str, Any] | Sequence[Any],
        namespace: str = "",
        *,
        how: Patch = Patch.MERGE,
        subresource: str = "",
    ) -> M:
        assert how is Patch.MERGE
        assert isinstance(patch, Mapping)
        await self._travel()
        stored = self._stored(kind, Key(namespace, name))
        tree = to_tree(stored)
        tree["metadata"].pop("resourceVersion")
        merged = _merge(tree, patch)
        if subresource == "status":
            merged = tree | {"status": merged.get("status")}
        new = from_tree(kind_of(kind), normalise(kind_of(kind), merged).tree)
        return await self._replace(new, keep="" if subresource == "status" else "status")

    async def apply(self, obj: M, manager: str, *, force: bool = True, subresource: str = "") -> M:
        raise NotImplementedError("server-side apply needs a real server")

    async def delete(self, kind: type[M], name: str, namespace: str = "", *, uid: str = "") -> None:
        await self._travel()
        obj = copy.deepcopy(self._stored(kind, Key(namespace, name)))
        if uid and metadata_of(obj).uid != uid:
            raise Conflict(f"{name} has another uid")
        if not metadata_of(obj).finalizers:
            await self._commit(Change.DELETED, obj)
        elif not metadata_of(obj).HasField("deletion_timestamp"):
            metadata_of(obj).deletion_timestamp.seconds = 1
            await self._commit(Change.MODIFIED, obj)

    async def close(self) -> None:
        pass

    async def _replace(self, obj: M, keep: str = "") -> M:
        stored = self._stored(type(obj), key_of(obj))
        new, old = copy.deepcopy(obj), metadata_of(stored)
        metadata = metadata_of(new)
        if metadata.resource_version not in ("", old.resource_version) or metadata.uid not in ("", old.uid):
            raise Conflict(f"{metadata.name} has been modified")
        if keep and kind_of(type(new)).has_status:
            cast(Any, new).status.CopyFrom(cast(Any, stored).status)
        metadata.uid, metadata.resource_version = old.uid, old.resource_version
        if old.HasField("deletion_timestamp"):
            metadata.deletion_timestamp.CopyFrom(old.deletion_timestamp)
            if not metadata.finalizers:
                return await self._commit(Change.DELETED, new)
        if new == stored:
            return copy.deepcopy(stored)
        return await self._commit(Change.MODIFIED, new)

    async def _commit(self, change: Change, obj: M) -> M:
        self.server.store(change, obj)
        await self._travel()  # the answer can be lost after the write
        return obj

    async def _travel(self) -> None:
        await asyncio.sleep(0)
        if not self.server.reachable:
            raise Unavailable("the server can't be reached")

    def _stored(self, kind: type[M], key: Key) -> M:
        try:
            return cast(M, self.server.objects[kind, key])
        except KeyError:
            raise NotFound(f"{kind_of(kind)} {key} not found", name=key.name) from None


def _merge(tree: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(tree) if isinstance(tree, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged
