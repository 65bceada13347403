"""Namespaces that another API server keeps: net and metalnet take core's.

As admission plugin it lets objects be created only in namespaces that exist there and stay; as task it follows them and
deletes the content of those that end. Core does not wait for that: when a namespace of the same name exists again
before its end was seen here, the content stays.
"""

from __future__ import annotations

import asyncio

from protos.k8s.core.v1.namespace_pb2 import Namespace
from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import is_deleting
from services.apimachinery.controllers.follow import stored_once, work
from services.apimachinery.controllers.namespaces import delete_content
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.queue import WorkQueue
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.admission import terminating
from services.apimachinery.server.call import Call
from services.apimachinery.server.loopback import Loopback
from services.apimachinery.server.resource import Resource

AGAIN_SECONDS = 5.0  # between looks at content that finalizers hold


class RemoteNamespaces:
    """Give it to `ApiServer` twice: in `admission`, and its `run` in `tasks`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._informer = Informer(client, Namespace)
        self._queue: WorkQueue[str] = WorkQueue("remote-namespaces")

    async def admit(self, call: Call, new: Tree | None, old: Tree | None) -> None:
        """Refuses a missing namespace (404) and one in deletion (403)."""
        if call.verb != "create" or not call.namespace:
            return
        namespace = self._informer.get(call.namespace) or await self._ask(call.namespace)
        if namespace is None:
            raise NotFound(f'namespaces "{call.namespace}" not found', kind="namespaces", name=call.namespace)
        if is_deleting(namespace):
            raise terminating(call)

    async def run(self, loopback: Loopback) -> None:
        """Follows the namespaces and empties those that end, for ever."""
        resources = [item for item in stored_once(list(loopback.resources)) if item.kind.namespaced]

        async def reconcile(name: str) -> None:
            namespace = await self._ask(name)
            if namespace is not None and not is_deleting(namespace):
                return
            if await delete_content(loopback, resources, name):
                self._queue.add_after(name, AGAIN_SECONDS)

        self._informer.on_change(self._seen)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run(), name="namespace informer")
            group.create_task(work(self._queue, reconcile), name="worker")
            await self._informer.synced()
            for name in await _inhabited(resources):
                if self._informer.get(name) is None:
                    self._queue.add(name)

    def _seen(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is None and old is not None:
            self._queue.add(old.metadata.name)
        elif new is not None and is_deleting(new):
            self._queue.add(new.metadata.name)

    async def _ask(self, name: str) -> Namespace | None:
        """The namespace as it is now: the informer may be behind."""
        try:
            return await self._client.get(Namespace, name)
        except NotFound:
            return None


async def _inhabited(resources: list[Resource]) -> set[str]:
    """The namespaces in which anything is stored."""
    names: set[str] = set()
    for resource in resources:
        cache = resource.stored.cache
        await cache.loaded()
        names.update(item.name.partition("/")[0] for item in cache.select())
    return names
