"""The end of namespaces: their content is deleted, then the finalizer that holds them is taken away.

A write is conditional on its namespace's version, so that nothing new appears once the namespace is marked.
"""

from __future__ import annotations

import asyncio
import time

from protos.k8s.core.v1.namespace_pb2 import Namespace
from services.apimachinery.controllers.follow import follow, stored_once, work
from services.apimachinery.runtime.queue import WorkQueue
from services.apimachinery.schema.schema import Tree
from services.apimachinery.schema.times import format_time
from services.apimachinery.server.admission import is_terminating
from services.apimachinery.server.builtin import KUBERNETES_FINALIZER
from services.apimachinery.server.loopback import Loopback
from services.apimachinery.server.resource import Resource
from services.apimachinery.store.watch_cache import DELETED, Event
from services.common.logs import get_logger

log = get_logger(__name__)

CONTENT_REMAINING = "NamespaceContentRemaining"


async def end_namespaces(loopback: Loopback) -> None:
    """Runs for ever."""
    await _NamespaceController(loopback).run()


class _NamespaceController:
    def __init__(self, loopback: Loopback) -> None:
        self._loopback = loopback
        self._namespaces = loopback.resources.of(Namespace)
        stored = stored_once(list(loopback.resources))
        self._content = [resource for resource in stored if resource.kind.namespaced]
        self._queue: WorkQueue[str] = WorkQueue("namespaces")
        self._ending: set[str] = set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(follow([self._namespaces, *self._content], self._seen), name="follow")
            group.create_task(work(self._queue, self._reconcile), name="worker")

    def _seen(self, resource: Resource, event: Event) -> None:
        if resource is self._namespaces:
            if event.type == DELETED:
                self._ending.discard(event.item.name)
            elif is_terminating(resource.tree(event.item)):
                self._ending.add(event.item.name)
                self._queue.add(event.item.name)
            return
        namespace = event.item.name.partition("/")[0]
        if event.type == DELETED and namespace in self._ending:
            self._queue.add(namespace)

    async def _reconcile(self, name: str) -> None:
        namespace = await self._loopback.get(self._namespaces, name)
        if namespace is None or not is_terminating(namespace):
            return
        if KUBERNETES_FINALIZER not in namespace.get("spec", {}).get("finalizers", ()):
            return
        remaining = await delete_content(self._loopback, self._content, name)
        if remaining:
            await self._report(namespace, remaining)
            return
        await self._loopback.change(self._namespaces, name, "", _drop_finalizer, subresource="finalize")
        log.info("namespace ended", namespace=name)

    async def _report(self, namespace: Tree, remaining: dict[str, int]) -> None:
        """Says what holds the namespace up; the deletion of any of it wakes us again."""
        listed = ", ".join(
            f"{resource} has {count} resource instances" for resource, count in sorted(remaining.items())
        )
        message = f"Some resources are remaining: {listed}"
        conditions = namespace.get("status", {}).get("conditions", [])
        if any(item["type"] == CONTENT_REMAINING and item.get("message") == message for item in conditions):
            return
        condition: Tree = {
            "type": CONTENT_REMAINING,
            "status": "True",
            "reason": "SomeResourcesRemain",
            "message": message,
            "lastTransitionTime": format_time(int(time.time())),
        }

        def report(tree: Tree) -> None:
            others = [item for item in tree["status"].get("conditions", ()) if item["type"] != CONTENT_REMAINING]
            tree["status"]["conditions"] = [*others, condition]

        name = namespace["metadata"]["name"]
        await self._loopback.change(self._namespaces, name, "", report, subresource="status")


async def delete_content(loopback: Loopback, resources: list[Resource], namespace: str) -> dict[str, int]:
    """Deletes everything in a namespace; what is left, held by finalizers, by resource."""
    remaining: dict[str, int] = {}
    for resource in resources:
        cache = resource.stored.cache
        await cache.fresh()
        for item in list(cache.select(f"{namespace}/")):
            if not resource.stored.message(item).metadata.HasField("deletion_timestamp"):
                await loopback.delete(resource, resource.tree(item))
    for resource in resources:
        cache = resource.stored.cache
        await cache.fresh()
        if count := sum(1 for _ in cache.select(f"{namespace}/")):
            remaining[resource.kind.resource] = count
    return remaining


def _drop_finalizer(tree: Tree) -> None:
    finalizers = tree.get("spec", {}).get("finalizers", ())
    tree["spec"] = {"finalizers": [name for name in finalizers if name != KUBERNETES_FINALIZER]}
