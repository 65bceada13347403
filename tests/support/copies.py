"""A small reconciler, complete with finalizer and owner, on which the runtime and the kill helper are tried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import Key, is_deleting
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.finalizers import ensure_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.apimachinery.runtime.schedule import RetryPolicy
from tests.support.kills import Reconcile

KEY = Key("default", "s")
QUICK = RetryPolicy(first=0.001, limit=0.01)


class Copies(Reconciler):
    """Keeps a config map of the same name beside each secret, and removes it before the secret may go."""

    FINALIZER = "test.ferrite/copy"

    def __init__(self, manager: Manager) -> None:
        super().__init__("copies", retries=QUICK)
        self.client = manager.client
        self.secrets = manager.informer(Secret)
        self.copies = manager.informer(ConfigMap)
        self.watch(self.secrets)
        self.watch(self.copies)

    async def reconcile(self, key: Key) -> float | None:
        secret = self.secrets.get(key.name, key.namespace)
        if secret is None:
            return None
        if is_deleting(secret):
            await self._release(key)
            await remove_finalizer(self.client, secret, self.FINALIZER)
            return None
        await ensure_finalizer(self.client, secret, self.FINALIZER)
        if self.copies.get(key.name, key.namespace) is None:
            await self.client.create(ConfigMap(metadata=ObjectMeta(namespace=key.namespace, name=key.name)))
        return None

    async def _release(self, key: Key) -> None:
        try:
            await self.client.delete(ConfigMap, key.name, key.namespace)
        except NotFound:
            pass


@asynccontextmanager
async def copies_process(client: Client) -> AsyncIterator[Reconcile]:
    manager = Manager(client)
    reconciler = Copies(manager)
    informers = [asyncio.create_task(informer.run()) for informer in (reconciler.secrets, reconciler.copies)]
    try:
        await reconciler.secrets.synced()
        await reconciler.copies.synced()
        yield lambda: reconciler.reconcile(KEY)
    finally:
        for task in informers:
            task.cancel()
        await asyncio.wait(informers)
