"""A local copy of the objects of one kind, kept current by list and watch.

machines = Informer(client, Machine, fields="spec.machinePoolRef.name=pool-1")
machines.index("class", lambda machine: [machine.spec.machine_class_ref.name])
machines.on_change(lambda old, new: ...)
task = asyncio.create_task(machines.run())
await machines.synced()
machine = machines.get("vm-1", "default")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic

from prometheus_client import Counter, Gauge

from services.apimachinery.client.interface import Change, Client
from services.apimachinery.client.objects import Key, M, key_of, metadata_of
from services.apimachinery.errors import ApiError, Gone
from services.apimachinery.kinds import kind_of
from services.apimachinery.runtime.cache import Difference, IndexFunction, ObjectCache
from services.common.logs import get_logger
from services.common.tasks import Backoff

log = get_logger(__name__)

OBJECTS = Gauge("ferrite_informer_objects", "Objects in the local cache.", ["resource", "selection"])
LISTS = Counter(
    "ferrite_informer_lists", "Complete lists fetched: at start and after a gap in the watch.", ["resource"]
)
WATCHES = Counter("ferrite_informer_watches", "Watches opened.", ["resource"])

Callback = Callable[[M | None, M | None], None]


class Informer(Generic[M]):
    """Lists once, then follows the watch; resumes where a broken watch ended, lists again when that is too old.

    Readers get copies: they may change them. The selectors are those of `Client.list`.
    """

    def __init__(
        self,
        client: Client,
        kind: type[M],
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        backoff: Backoff | None = None,
    ) -> None:
        self.kind = kind
        self._client = client
        self._namespace, self._labels, self._fields = namespace, labels, fields
        self._resource = kind_of(kind).resource
        self._cache = ObjectCache(kind)
        self._objects = OBJECTS.labels(self._resource, ",".join(part for part in (namespace, labels, fields) if part))
        self._callbacks: list[Callback[M]] = []
        self._synced = asyncio.Event()
        self._version = ""
        self._backoff = backoff or Backoff()

    def get(self, name: str, namespace: str = "") -> M | None:
        """A copy of the object as last seen, or None."""
        return self._cache.get(Key(namespace, name))

    def items(self) -> list[M]:
        """Copies of all objects."""
        return list(self._cache)

    def index(self, name: str, values_of: IndexFunction[M]) -> None:
        """Adds an index: `values_of(obj)` gives the values under which the object is found."""
        self._cache.index(name, values_of)

    def by_index(self, name: str, value: str) -> list[M]:
        """Copies of the objects found under a value of an index, ordered by namespace and name."""
        return self._cache.by_index(name, value)

    def on_change(self, callback: Callback[M]) -> None:
        """Calls `callback(old, new)` after each change; `old` is None for a new object, `new` for one that is gone.

        Objects that are known already are announced at once as new.
        """
        self._callbacks.append(callback)
        for obj in self._cache:
            self._call(callback, Difference(None, obj))

    @property
    def is_synced(self) -> bool:
        """Whether the first list is complete."""
        return self._synced.is_set()

    async def synced(self) -> None:
        """Waits until the first list is complete."""
        await self._synced.wait()

    async def run(self) -> None:
        """Keeps the copy current until cancelled, whatever the server does."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except Gone:
                self._version = ""
            except ApiError as error:
                log.warning("informer was interrupted", resource=self._resource, error=error.message)
            await asyncio.sleep(self._backoff.next())

    async def _list(self) -> None:
        page = await self._client.list(self.kind, self._namespace, labels=self._labels, fields=self._fields)
        LISTS.labels(self._resource).inc()
        self._announce(self._cache.replace(page.items))
        self._version = page.resource_version
        self._synced.set()

    async def _watch(self) -> None:
        WATCHES.labels(self._resource).inc()
        events = self._client.watch(
            self.kind,
            self._namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=self._version,
        )
        async for event in events:
            if event.change is Change.DELETED:
                self._announce(self._cache.remove(key_of(event.object)))
            elif event.change is not Change.BOOKMARK:
                self._announce(self._cache.put(event.object))
            # Only after the object is taken: a resume from here would skip it.
            self._version = metadata_of(event.object).resource_version
            self._backoff.reset()

    def _announce(self, differences: Iterable[Difference[M]]) -> None:
        for difference in differences:
            for callback in self._callbacks:
                self._call(callback, difference)
        self._objects.set(len(self._cache))

    def _call(self, callback: Callback[M], difference: Difference[M]) -> None:
        try:
            callback(difference.old, difference.new)
        except Exception:
            # One object that a callback can't digest must not end the flow of all others.
            log.exception("informer callback failed", resource=self._resource)
