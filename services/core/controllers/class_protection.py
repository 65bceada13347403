"""Controllers `machineclass`, `volumeclass` and `bucketclass`: a class stays as long as an object uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from google.protobuf.message import Message

from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.storage.v1alpha1.bucket_class_pb2 import BucketClass
from protos.storage.v1alpha1.bucket_pb2 import Bucket
from protos.storage.v1alpha1.volume_class_pb2 import VolumeClass
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.objects import Key, is_deleting
from services.apimachinery.runtime.finalizers import ensure_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.common.logs import get_logger
from services.core.model import names

log = get_logger(__name__)

K = TypeVar("K", bound=Message)
U = TypeVar("U", bound=Message)


class ClassProtection(Reconciler, Generic[K, U]):
    """Holds classes of one kind by a finalizer; `field` is the selectable field by which users name their class."""

    def __init__(
        self,
        manager: Manager,
        name: str,
        *,
        protects: type[K],
        user: type[U],
        class_name: Callable[[U], str],
        field: str,
        finalizer: str,
    ) -> None:
        super().__init__(name)
        self._client = manager.client
        self._user, self._field, self._finalizer = user, field, finalizer
        self._classes = manager.informer(protects)
        self._users = manager.informer(user)
        self._index = f"{name}/users"
        self._users.index(self._index, lambda user: [class_name(user)])
        self.watch(self._classes)
        self.watch(self._users, lambda user: [Key("", class_name(user))])

    async def reconcile(self, key: Key) -> float | None:
        """Puts the finalizer, or takes it off when the last user is gone. Users' events wake it while it waits."""
        protected = self._classes.get(key.name)
        if protected is None:
            return None
        if not is_deleting(protected):
            await ensure_finalizer(self._client, protected, self._finalizer)
        elif not await self._is_used(key.name):
            await remove_finalizer(self._client, protected, self._finalizer)
            log.info("class released", name=key.name)
        return None

    async def _is_used(self, name: str) -> bool:
        """The cache is asked first, the server has the last word."""
        if self._users.by_index(self._index, name):
            return True
        return bool((await self._client.list(self._user, fields=f"{self._field}={name}")).items)


def machine_class_protection(manager: Manager) -> ClassProtection[MachineClass, Machine]:
    """Machines protect their MachineClass."""
    return ClassProtection(
        manager,
        "machine-class",
        protects=MachineClass,
        user=Machine,
        class_name=lambda machine: machine.spec.machine_class_ref.name,
        field="spec.machineClassRef.name",
        finalizer=names.MACHINE_CLASS_FINALIZER,
    )


def volume_class_protection(manager: Manager) -> ClassProtection[VolumeClass, Volume]:
    """Volumes protect their VolumeClass."""
    return ClassProtection(
        manager,
        "volume-class",
        protects=VolumeClass,
        user=Volume,
        class_name=lambda volume: volume.spec.volume_class_ref.name,
        field="spec.volumeClassRef.name",
        finalizer=names.VOLUME_CLASS_FINALIZER,
    )


def bucket_class_protection(manager: Manager) -> ClassProtection[BucketClass, Bucket]:
    """Buckets protect their BucketClass."""
    return ClassProtection(
        manager,
        "bucket-class",
        protects=BucketClass,
        user=Bucket,
        class_name=lambda bucket: bucket.spec.bucket_class_ref.name,
        field="spec.bucketClassRef.name",
        finalizer=names.BUCKET_CLASS_FINALIZER,
    )
