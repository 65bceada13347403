"""Volume of the API → volume of the runtime, and its state and credentials back."""

from __future__ import annotations

import time
from typing import Any, Final

from protos.iri.volume.v1alpha1 import volume_pb2 as iri
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.storage.v1alpha1.volume_class_pb2 import VolumeClass
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.objects import Key, is_deleting
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.conditions import set_condition
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler, Waiting
from services.apimachinery.schema.quantity import Quantity
from services.common.logs import get_logger
from services.core.poollets import classes
from services.core.poollets.feed import Feed
from services.core.poollets.keys import MANAGED_BY, VOLUME_FINALIZER, VOLUME_NAME, VOLUME_NAMESPACE, VOLUME_UID
from services.core.poollets.offers import Offers
from services.core.poollets.runtime import gone_is_fine
from services.core.poollets.volume import translate

log = get_logger(__name__)

WORKERS: Final = 8
FIELD_MANAGER: Final = "volumepoollet.ironcore.dev/field-owner"
READY: Final = "Ready"


class VolumeReconciler(Reconciler):
    """One Volume of the pool at a time."""

    def __init__(
        self, manager: Manager, volumes: Informer[Volume], runtime: Any, runtime_name: str, offers: Offers
    ) -> None:
        super().__init__("volumepoollet-volume", workers=WORKERS)
        self._client, self._volumes, self._offers = manager.client, volumes, offers
        self._runtime, self._runtime_name = runtime, runtime_name
        self._classes = manager.informer(VolumeClass)
        self._secrets = manager.informer(Secret)
        self._recorder = manager.recorder("volumepoollet")
        self.feed = Feed(self._list_all, self._runtime_changed)
        self.watch(volumes)
        self.watch(self._classes, lambda volume_class: self._unfinished())
        self.watch(self._secrets, self._users)
        offers.on_change(self._retry_unfinished)

    async def reconcile(self, key: Key) -> float | None:
        """Creates, grows or deletes at the runtime, and reports."""
        volume = self._volumes.get(key.name, key.namespace)
        if volume is None:
            await self._delete_runtime({VOLUME_NAMESPACE: key.namespace, VOLUME_NAME: key.name})
            return None
        if MANAGED_BY in volume.metadata.annotations:
            return None
        if is_deleting(volume):
            return await self._release(volume)
        volume = await ensure_finalizer(self._client, volume, VOLUME_FINALIZER)
        runtime = await self._ensure_single(volume)
        if runtime is None:
            runtime = await self._create(volume)
        elif runtime.spec.resources.storage_bytes != translate.requested_bytes(volume):
            request = iri.ExpandVolumeRequest(volume_id=runtime.metadata.id)
            request.resources.storage_bytes = translate.requested_bytes(volume)
            await self._runtime.ExpandVolume(request)
            self.feed.hurry()
        await self._report(volume, runtime)
        if runtime.status.state == iri.VOLUME_PENDING:
            self.feed.hurry()
        return None

    async def on_waiting(self, key: Key, wait: Waiting) -> None:
        """Says in the volume's conditions, and once as an event, what it waits for."""
        volume = self._volumes.get(key.name, key.namespace)
        if volume is not None and set_condition(
            volume.status.conditions, wait.type, wait.status, wait.reason, wait.message
        ):
            self._recorder.event(volume, "Normal", wait.reason, wait.message, action="Waiting")
            await self._client.update_status(volume)

    def _unfinished(self) -> list[Key]:
        return [
            Key(volume.metadata.namespace, volume.metadata.name)
            for volume in self._volumes.items()
            if volume.status.state != "Available"
        ]

    def _retry_unfinished(self) -> None:
        for key in self._unfinished():
            self.queue.add(key)

    def _users(self, secret: Secret) -> list[Key]:
        """Volumes encrypted with it, and the volume whose access it holds (it may have been changed by hand)."""
        metadata = secret.metadata
        return [
            Key(volume.metadata.namespace, volume.metadata.name)
            for volume in self._volumes.items()
            if volume.metadata.namespace == metadata.namespace
            and metadata.name in (volume.spec.encryption.secret_ref.name, volume.status.access.secret_ref.name)
        ]

    def _runtime_changed(self, runtime: iri.Volume) -> None:
        labels = runtime.metadata.labels
        if VOLUME_NAMESPACE in labels and VOLUME_NAME in labels:
            self.queue.add(Key(labels[VOLUME_NAMESPACE], labels[VOLUME_NAME]))

    async def _list_all(self) -> list[iri.Volume]:
        return await self._list({})

    async def _list(self, labels: dict[str, str]) -> list[iri.Volume]:
        request = iri.ListVolumesRequest(filter=iri.VolumeFilter(label_selector=labels))
        return list((await self._runtime.ListVolumes(request)).volumes)

    async def _ensure_single(self, volume: Volume) -> iri.Volume | None:
        """Our volume at the runtime. Of several (a lost answer to Create) the oldest stays: it may hold data."""
        found = await self._list({VOLUME_UID: volume.metadata.uid})
        found.sort(key=lambda item: (item.metadata.created_at, item.metadata.id))
        for surplus in found[1:]:
            message = f"the runtime had {len(found)} volumes for this one; {surplus.metadata.id} is deleted"
            self._recorder.event(volume, "Warning", "DuplicateRuntimeVolume", message, action="Deleting")
            await gone_is_fine(self._runtime.DeleteVolume(iri.DeleteVolumeRequest(volume_id=surplus.metadata.id)))
        return found[0] if found else None

    async def _create(self, volume: Volume) -> iri.Volume:
        if volume.spec.data_source.HasField("volume_snapshot_ref"):
            raise Waiting(READY, "SnapshotsNotSupported", "this pool can't make volumes from snapshots yet")
        wanted = translate.runtime_volume(volume, self._runtime_class(volume), self._encryption(volume))
        created: iri.Volume = (await self._runtime.CreateVolume(iri.CreateVolumeRequest(volume=wanted))).volume
        log.info("volume created", runtime_id=created.metadata.id)
        return created

    def _runtime_class(self, volume: Volume) -> str:
        name = volume.spec.volume_class_ref.name
        volume_class = self._classes.get(name)
        if volume_class is None:
            raise Waiting(READY, "VolumeClassNotFound", f"volume class {name} does not exist")
        wanted = {key: Quantity.parse(value).value for key, value in volume_class.capabilities.items()}
        found = classes.match(name, wanted, self._offers.classes)
        if found is None:
            message = f"the runtime of this pool has no class with the capabilities of {name}: {wanted}"
            raise Waiting(READY, "VolumeClassNotReady", message)
        return found

    def _encryption(self, volume: Volume) -> Secret | None:
        name = volume.spec.encryption.secret_ref.name
        if not name:
            return None
        secret = self._secrets.get(name, volume.metadata.namespace)
        if secret is None:
            raise Waiting(READY, "VolumeEncryptionSecretNotReady", f"secret {name} does not exist")
        return secret

    async def _report(self, volume: Volume, runtime: iri.Volume) -> None:
        wanted = translate.access_secret(volume, runtime)
        await self._ensure_secret(volume, wanted)
        name = wanted.metadata.name if wanted is not None else ""
        status = translate.status_of(volume, runtime, self._runtime_name, name, int(time.time()))
        if status != volume.status:
            if status.state != volume.status.state:
                log.info("volume state changed", before=volume.status.state, now=status.state)
            await self._client.update_status(Volume(metadata=volume.metadata, spec=volume.spec, status=status))

    async def _ensure_secret(self, volume: Volume, wanted: Secret | None) -> None:
        for present in self._secrets.items():
            labelled = present.metadata.labels.get(VOLUME_UID) == volume.metadata.uid
            ours = labelled and present.metadata.namespace == volume.metadata.namespace
            if ours and (wanted is None or present.metadata.name != wanted.metadata.name):
                await self._delete_secret(present)
        if wanted is None:
            return
        known = self._secrets.get(wanted.metadata.name, wanted.metadata.namespace)
        if known is None or dict(known.data) != dict(wanted.data):
            await self._client.apply(wanted, FIELD_MANAGER)

    async def _delete_secret(self, secret: Secret) -> None:
        try:
            await self._client.delete(Secret, secret.metadata.name, secret.metadata.namespace)
        except NotFound:
            pass

    async def _release(self, volume: Volume) -> float | None:
        if not has_finalizer(volume, VOLUME_FINALIZER):
            return None
        if await self._delete_runtime({VOLUME_UID: volume.metadata.uid}):
            self.feed.hurry()
            return 1.0  # in case the feed, which wakes us earlier, fails
        await remove_finalizer(self._client, volume, VOLUME_FINALIZER)
        return None

    async def _delete_runtime(self, labels: dict[str, str]) -> int:
        """Asks for the deletion of what has these labels; how many there still are."""
        found = await self._list(labels)
        for runtime in found:
            if not runtime.metadata.deleted_at:
                await gone_is_fine(self._runtime.DeleteVolume(iri.DeleteVolumeRequest(volume_id=runtime.metadata.id)))
        return len(found)
