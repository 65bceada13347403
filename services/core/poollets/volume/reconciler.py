"""Volume of the API → volume of the runtime, and its state and credentials back."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, ClassVar, Final

from protos.iri.volume.v1alpha1 import volume_pb2 as iri
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.storage.v1alpha1.volume_class_pb2 import VolumeClass
from protos.storage.v1alpha1.volume_pb2 import Volume, VolumeStatus
from services.apimachinery.client.objects import Key
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.conditions import set_condition
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Waiting
from services.common.logs import get_logger
from services.core.poollets import classes
from services.core.poollets.keys import VOLUME, Marks
from services.core.poollets.offers import Offers
from services.core.poollets.twin import READY, TwinReconciler, keys_of
from services.core.poollets.volume import translate

log = get_logger(__name__)

FIELD_MANAGER: Final = "volumepoollet.ironcore.dev/field-owner"


class VolumeReconciler(TwinReconciler[Volume, iri.Volume]):
    """One Volume of the pool at a time."""

    marks: ClassVar[Marks] = VOLUME

    def __init__(
        self, manager: Manager, volumes: Informer[Volume], runtime: Any, runtime_name: str, offers: Offers
    ) -> None:
        super().__init__("volumepoollet", manager, volumes)
        self._runtime, self._runtime_name, self._offers = runtime, runtime_name, offers
        self._classes = manager.informer(VolumeClass)
        self._secrets = manager.informer(Secret)
        self._secrets.index("volume", lambda secret: [uid for uid in [secret.metadata.labels.get(VOLUME.uid)] if uid])
        volumes.index("secret", _secret_names)
        self.watch(self._classes, lambda volume_class: self.waiting())
        self.watch(self._secrets, self._users)
        offers.on_change(self.wake_waiting)

    async def listed(self, labels: dict[str, str]) -> Sequence[iri.Volume]:
        """Volumes of the runtime."""
        request = iri.ListVolumesRequest(filter=iri.VolumeFilter(label_selector=labels))
        return list((await self._runtime.ListVolumes(request)).volumes)

    def delete(self, identity: str) -> Awaitable[Any]:
        """Deletes a volume of the runtime."""
        call: Awaitable[Any] = self._runtime.DeleteVolume(iri.DeleteVolumeRequest(volume_id=identity))
        return call

    def has_twin(self, obj: Volume) -> bool:
        """By the id in the status."""
        return bool(obj.status.volume_id)

    async def realise(self, obj: Volume) -> bool:
        """Creates, reports, grows."""
        try:
            runtime = await self.twin(obj)
            if runtime is None:
                runtime = await self._create(obj)
        except Waiting as wait:
            await self.report_waits(obj, [wait])
            return False
        if runtime.status.state == iri.VOLUME_PENDING:
            self.feed.hurry()
        await self._report(obj, runtime)
        if runtime.spec.resources.storage_bytes != translate.requested_bytes(obj):
            request = iri.ExpandVolumeRequest(volume_id=runtime.metadata.id)
            request.resources.storage_bytes = translate.requested_bytes(obj)
            await self._runtime.ExpandVolume(request)
            self.feed.hurry()
        return True

    async def report_waits(self, obj: Volume, waits: Sequence[Waiting]) -> None:
        """Into the conditions."""
        self.announce(obj, waits)
        status = VolumeStatus()
        status.CopyFrom(obj.status)
        for wait in waits:
            set_condition(status.conditions, wait.type, wait.status, wait.reason, wait.message)
        await self._write(obj, status)

    def _users(self, secret: Secret) -> Iterable[Key]:
        """Volumes encrypted with it, and the volume whose access it holds (it may have been changed by hand)."""
        return keys_of(self.objects.by_index("secret", f"{secret.metadata.namespace}/{secret.metadata.name}"))

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
        wanted = classes.capabilities(volume_class.capabilities)
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
        if wanted is not None:
            await self._ensure_secret(wanted)
        name = wanted.metadata.name if wanted is not None else ""
        status = translate.status_of(volume, runtime, self._runtime_name, name, int(time.time()))
        if status.state != volume.status.state:
            log.info("volume state changed", before=volume.status.state, now=status.state)
        await self._write(volume, status)
        # Only now does nobody refer to the others any more.
        for present in self._secrets.by_index("volume", volume.metadata.uid):
            if present.metadata.namespace == volume.metadata.namespace and present.metadata.name != name:
                await self._delete_secret(present)

    async def _write(self, volume: Volume, status: VolumeStatus) -> None:
        if status != volume.status:
            await self.client.update_status(Volume(metadata=volume.metadata, spec=volume.spec, status=status))

    async def _ensure_secret(self, wanted: Secret) -> None:
        known = self._secrets.get(wanted.metadata.name, wanted.metadata.namespace)
        if known is None or dict(known.data) != dict(wanted.data):
            await self.client.apply(wanted, FIELD_MANAGER)

    async def _delete_secret(self, secret: Secret) -> None:
        try:
            await self.client.delete(Secret, secret.metadata.name, secret.metadata.namespace, uid=secret.metadata.uid)
        except NotFound:
            pass


def _secret_names(volume: Volume) -> list[str]:
    names = {volume.spec.encryption.secret_ref.name, volume.status.access.secret_ref.name} - {""}
    return [f"{volume.metadata.namespace}/{name}" for name in names]
