"""What machines and volumes have in common: an object of the API and its twin in a runtime.

The twin is found by labels that carry the object's identity, so that whatever a killed poollet left is taken over. A
twin whose object is gone is deleted, after the API server was asked: caches may be behind, and a twin may hold data.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import grpc

from protos.iri.event.v1alpha1.event_pb2 import Event
from services.apimachinery.client.objects import Key, M, is_deleting, key_of, metadata_of
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.conditions import find_condition
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler, Waiting
from services.apimachinery.runtime.recorder import NORMAL, WARNING
from services.common.logs import get_logger
from services.core.poollets.feed import Feed, Listed
from services.core.poollets.keys import MANAGED_BY, Marks

log = get_logger(__name__)

WORKERS: Final = 8
READY: Final = "Ready"
RECHECK_SECONDS: Final = 5.0
"""Between looks at a twin that is being deleted, should the feed, which wakes us earlier, fail."""


class Twin(Listed, Protocol):
    """An IRI object: its metadata is that of `meta.v1alpha1`."""

    @property
    def metadata(self) -> Any: ...


T = TypeVar("T", bound=Twin)


class TwinReconciler(Reconciler, Generic[M, T]):
    """One object of the pool at a time. Subclasses speak to their runtime and translate."""

    marks: ClassVar[Marks]

    def __init__(self, name: str, manager: Manager, objects: Informer[M]) -> None:
        super().__init__(name, workers=WORKERS)
        self.client, self.objects = manager.client, objects
        self.recorder = manager.recorder(name)
        self.feed: Feed[T] = Feed(lambda: self.listed({}), self._object_of, self.queue.add)
        self._waiting: set[Key] = set()
        self.watch(objects)

    @abstractmethod
    async def listed(self, labels: dict[str, str]) -> Sequence[T]:
        """The twins with these labels; all for none."""

    @abstractmethod
    def delete(self, identity: str) -> Awaitable[Any]:
        """Asks the runtime for the deletion of one twin."""

    @abstractmethod
    async def realise(self, obj: M) -> bool:
        """Creates or changes the twin and reports; whether nothing is waited for that others must do."""

    @abstractmethod
    async def report_waits(self, obj: M, waits: Sequence[Waiting]) -> None:
        """Writes to an object without twin what it waits for."""

    async def report_leaving(self, obj: M, twin: T) -> None:
        """Reports on the twin of an object that is being deleted."""

    async def reconcile(self, key: Key) -> float | None:
        """Realises the object, or makes its twin go."""
        obj = self.objects.get(key.name, key.namespace)
        await self._delete_strangers(key, obj)
        if obj is None or MANAGED_BY in metadata_of(obj).annotations:
            self._waiting.discard(key)
            return None
        if is_deleting(obj):
            self._waiting.discard(key)
            return await self._release(obj)
        # Before anything is looked at: what becomes ready from now on must wake us.
        self._waiting.add(key)
        obj = await ensure_finalizer(self.client, obj, self.marks.finalizer)
        if await self.realise(obj):
            self._waiting.discard(key)
        return None

    async def on_error(self, key: Key, error: Exception) -> None:
        """Tells the user what the runtime refused: as an event, and in the conditions of an object without twin."""
        obj = self.objects.get(key.name, key.namespace)
        if obj is None or not isinstance(error, grpc.aio.AioRpcError):
            return
        code = error.code().name
        reason = "Runtime" + code.title().replace("_", "")
        message = f"the runtime answered {code}: {error.details()}"
        self.recorder.event(obj, "Warning", reason, message, action="Realising")
        known = find_condition(_conditions(obj), READY)
        # A message that varies must not be written each time: every write wakes us, and the back-off would be none.
        if not self.has_twin(obj) and not is_deleting(obj) and (known is None or known.reason != reason):
            await self.report_waits(obj, [Waiting(READY, reason, message)])

    @abstractmethod
    def has_twin(self, obj: M) -> bool:
        """Whether a twin has been reported in the status."""

    def waiting(self, namespace: str = "") -> list[Key]:
        """For `watch`: the objects that wait for something; only those of one namespace if given."""
        return [key for key in self._waiting if namespace in ("", key.namespace)]

    def wake_waiting(self) -> None:
        """Looks again at all objects that wait for something."""
        for key in self.waiting():
            self.queue.add(key)

    def announce(self, obj: M, waits: Iterable[Waiting]) -> None:
        """An event for each reason that the object's conditions don't give yet."""
        for wait in waits:
            known = find_condition(_conditions(obj), wait.type)
            if known is None or (known.reason, known.message) != (wait.reason, wait.message):
                self.recorder.event(obj, "Normal", wait.reason, wait.message, action="Waiting")

    async def twin(self, obj: M) -> T | None:
        """The object's twin. Of several (a lost answer to Create) the oldest stays. Raises Waiting for one that goes.

        A runtime deletes asynchronously: what is being deleted is no twin any more.
        """
        found = await self.listed({self.marks.uid: metadata_of(obj).uid})
        alive = [twin for twin in found if not twin.metadata.deleted_at]
        alive.sort(key=lambda twin: (twin.metadata.created_at, twin.metadata.id))
        for surplus in alive[1:]:
            message = f"the runtime had {len(alive)} objects for this one; the younger {surplus.metadata.id} is deleted"
            self.recorder.event(obj, "Warning", "DuplicateInRuntime", message, action="Deleting")
            await gone_is_fine(self.delete(surplus.metadata.id))
        if found and not alive:
            self.feed.hurry()
            raise Waiting(READY, "RuntimeDeletes", "the runtime is deleting what it made for this object before")
        return alive[0] if alive else None

    def relay(self, event: Event) -> None:
        """Publishes what the runtime says about a twin as an Event of its object."""
        said, about = event.spec, event.spec.involved_object_meta.labels
        key = self.marks.key(about)
        obj = self.objects.get(key.name, key.namespace) if key is not None else None
        if obj is not None and metadata_of(obj).uid == about.get(self.marks.uid):
            kind = said.type if said.type in (NORMAL, WARNING) else NORMAL
            self.recorder.event(obj, kind, said.reason, said.message, action=said.action)

    def _object_of(self, twin: T) -> Key | None:
        return self.marks.key(twin.metadata.labels)

    async def _delete_strangers(self, key: Key, obj: M | None) -> None:
        """Deletes twins of an object that is gone, also when there is a new one of the same name."""
        uid = "" if obj is None else metadata_of(obj).uid
        strangers = [twin for twin in self.feed.of(key) if twin.metadata.labels.get(self.marks.uid) != uid]
        if not strangers:
            return
        try:
            uid = metadata_of(await self.client.get(self.objects.kind, key.name, key.namespace)).uid
        except NotFound:
            uid = ""
        for twin in strangers:
            if twin.metadata.labels.get(self.marks.uid) != uid and not twin.metadata.deleted_at:
                log.info("deleting what belongs to no object", runtime_id=twin.metadata.id)
                await gone_is_fine(self.delete(twin.metadata.id))

    async def _release(self, obj: M) -> float | None:
        if not has_finalizer(obj, self.marks.finalizer):
            return None
        mine = {self.marks.uid: metadata_of(obj).uid}
        for twin in await self.listed(mine):
            if not twin.metadata.deleted_at:
                await gone_is_fine(self.delete(twin.metadata.id))
        left = await self.listed(mine)
        if not left:
            await remove_finalizer(self.client, obj, self.marks.finalizer)
            return None
        self.feed.hurry()
        await self.report_leaving(obj, left[0])
        return RECHECK_SECONDS


async def gone_is_fine(call: Awaitable[Any]) -> None:
    """Awaits a deletion or detachment: what is not there needs no removal."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise


def keys_of(objects: Iterable[Any]) -> list[Key]:
    """The keys of objects."""
    return [key_of(obj) for obj in objects]


def _conditions(obj: Any) -> Any:
    return obj.status.conditions
