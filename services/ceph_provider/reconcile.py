"""Makes the pool match the records, one volume at a time.

A volume is made in the order record, image, limits, user, and available last; it is removed in the reverse order. Each
step looks at what is there and acts on the difference, so a step that was cut off is simply taken again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import ClassVar, Final

from prometheus_client import Gauge

from services.apimachinery.runtime.reconciler import Key, Reconciler, Waiting
from services.ceph_provider.cluster import CephError, Cluster
from services.ceph_provider.images import Image, ImageBusy, Images
from services.ceph_provider.model import names
from services.ceph_provider.model.record import Access, Record, VolumeState
from services.ceph_provider.model.refusals import NotFound
from services.ceph_provider.model.sizes import rounded
from services.ceph_provider.model.volume import settled
from services.ceph_provider.recorder import Recorder
from services.ceph_provider.store import VolumeStore
from services.ceph_provider.users import Users
from services.common import telemetry

VOLUMES = Gauge("ferrite_ceph_provider_volumes", "Volumes by state when the pool was last looked through.", ["state"])

RESYNC_SECONDS: Final = 60.0
"""How often we look for volumes that another provider left unfinished."""

IN_USE_SECONDS: Final = 1.0
"""How often we look whether an image that is to be removed is still open: nobody tells."""

MOST_FAILURES: Final = 5
"""Failures in a row after which clients are told that the volume is in error. Trying goes on."""

AVAILABLE: Final = "Available"


class Step(Enum):
    """What is done to a volume: reasons of success and failure, and the action, of its events."""

    CREATE = ("EmptyImageCreationSucceeded", "EmptyImageCreationFailed", "CreateImage")
    LIMIT = ("SetImageLimitSucceeded", "SetImageLimitFailed", "SetImageLimits")
    USER = ("UserCreationSucceeded", "UserCreationFailed", "CreateUser")
    RESIZE = ("UpdatedImageSizeSucceeded", "UpdateImageSizeFailed", "ResizeImage")
    DELETE = ("ImageDeletionSucceeded", "ImageDeletionFailed", "DeleteImage")

    def __init__(self, done: str, failed: str, action: str) -> None:
        self.done, self.failed, self.action = done, failed, action


class VolumeReconciler(Reconciler):
    """The volumes of one pool."""

    # Removing a large image may take hours; a call that hangs is cut off by its own deadline.
    deadline: ClassVar[float] = 24 * 3600.0

    def __init__(self, store: VolumeStore, cluster: Cluster, recorder: Recorder, *, workers: int) -> None:
        super().__init__("volume", workers=workers)
        self._store = store
        self._cluster = cluster
        self._images = Images(cluster)
        self._users = Users(cluster)
        self._recorder = recorder
        self._stuck: set[str] = set()

    def wake(self, record: Record) -> None:
        """Makes the volume due now."""
        key = Key("", record.id)
        self.origins.note_header(key, record.metadata.traceparent)
        self.queue.add(key)

    def failed(self, volume_id: str) -> bool:
        """Whether it can't be made or served at present; an event says why."""
        return volume_id in self._stuck

    async def resync(self) -> None:
        """Wakes every volume once, later those that are unfinished; until cancelled."""
        for record in await self._listed():
            self.wake(record)
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            for record in await self._listed():
                if not settled(record):
                    self.wake(record)

    async def _listed(self) -> list[Record]:
        records = await self._store.list()
        states = Counter("deleting" if each.deleting else each.status.state.value.lower() for each in records)
        for state in ("pending", "available", "deleting"):
            VOLUMES.labels(state).set(states[state])
        return records

    async def reconcile(self, key: Key) -> float | None:
        with telemetry.untraced():
            record = await self._store.get(key.name)
        if record is None:
            self._stuck.discard(key.name)
            self.origins.note_header(key, "")
        elif record.deleting:
            await self._remove(record)
        elif record.status.state is VolumeState.AVAILABLE:
            await self._ensure_size(record, await self._present_image(record))
        else:
            await self._make(record)
        self._stuck.discard(key.name)
        return None

    async def on_error(self, key: Key, error: Exception) -> None:
        if isinstance(error, CephError) and self.queue.failures(key) >= MOST_FAILURES:
            self._stuck.add(key.name)

    async def _make(self, record: Record) -> None:
        self._refuse_foreign(record)
        image = await self._ensure_image(record)
        await self._ensure_limits(record, image)
        key = await self._ensure_user(record, image)
        access = Access(
            monitors=self._cluster.address.monitors,
            handle=f"{self._cluster.address.pool}/{names.image_name(record.id)}",
            user=names.user_id(record.id),
            user_key=key,
        )

        def make_available(stored: Record) -> None:
            if not stored.deleting:
                stored.status.access, stored.status.size = access, image.size
                stored.status.state = VolumeState.AVAILABLE

        await self._store.update(record.id, make_available)

    def _refuse_foreign(self, record: Record) -> None:
        """Another provider may have taken orders that this one can't carry out."""
        spec = record.spec
        wrong = [
            field
            for field, value in (("image", spec.image), ("snapshotRef", spec.snapshot_ref))
            if value  # empty and null mean the same
        ]
        if spec.encryption is not None and spec.encryption.type != "Unencrypted":
            wrong.append("encryption")
        if wrong:
            message = f"the record asks for {', '.join(wrong)}, which this provider does not offer"
            self._give_up(record, Step.CREATE, message)

    async def _ensure_image(self, record: Record) -> Image:
        name, size = names.image_name(record.id), rounded(record.spec.size)
        with self._told(record, Step.CREATE):
            if await self._images.create(name, size):
                self._done(record, Step.CREATE, f"image {name} of {size} bytes was created")
            image = await self._images.look(name)
            if image is None:
                raise RuntimeError(f"image {name} vanished while volume {record.id} was being made")
        if image.size < size:
            await self._grow(record, size)
            return Image(image.rbd_id, size)
        return image

    async def _ensure_limits(self, record: Record, image: Image) -> None:
        with self._told(record, Step.LIMIT):
            await self._images.set_metadata(image, record.spec.wwn, record.spec.limits)
        self._done(record, Step.LIMIT, f"{len(record.spec.limits)} limits were set")

    async def _ensure_user(self, record: Record, image: Image) -> str:
        with self._told(record, Step.USER):
            return await self._users.ensure(record.id, image.rbd_id)

    async def _present_image(self, record: Record) -> Image:
        image = await self._images.look(names.image_name(record.id))
        if image is None:
            # Not made anew: an empty image in the place of somebody's data would hide the loss.
            self._give_up(record, Step.CREATE, f"image {names.image_name(record.id)} of an available volume is missing")
            raise AssertionError("unreachable")
        return image

    async def _ensure_size(self, record: Record, image: Image) -> None:
        size = rounded(record.spec.size)
        if image.size < size:
            await self._grow(record, size)
        present = max(size, image.size)

        def note_size(stored: Record) -> None:
            stored.status.size = present

        if record.status.size != present:
            await self._store.update(record.id, note_size)

    async def _grow(self, record: Record, size: int) -> None:
        with self._told(record, Step.RESIZE):
            await self._images.grow(names.image_name(record.id), size)
        self._done(record, Step.RESIZE, f"image {names.image_name(record.id)} has grown to {size} bytes")

    async def _remove(self, record: Record) -> None:
        name = names.image_name(record.id)
        with self._told(record, Step.DELETE):
            await self._wait_until_unused(record, name)
            # First the user: nobody opens the image from here on.
            await self._users.remove(record.id)
            try:
                await self._images.remove(name)
            except ImageBusy:
                await self._wait_until_unused(record, name)
                raise Waiting(AVAILABLE, "ImageInUse", f"image {name} is locked", retry_after=IN_USE_SECONDS) from None
        await self._forget(record)

    async def _wait_until_unused(self, record: Record, name: str) -> None:
        users = await self._images.users(name)
        if users:
            message = f"image {name} is open at {', '.join(users)}; it is removed when it has been closed"
            self._recorder.warning(record, "ImageInUse", Step.DELETE.action, message)
            raise Waiting(AVAILABLE, "ImageInUse", message, retry_after=IN_USE_SECONDS)

    async def _forget(self, record: Record) -> None:
        """Removes the record, or our finalizer if there are others."""
        if any(finalizer != names.IMAGE_FINALIZER for finalizer in record.metadata.finalizers):
            try:
                await self._store.update(record.id, _release)
            except NotFound:
                return
        elif not await self._store.remove(record):
            raise Waiting(AVAILABLE, "RecordChanged", "the record was written meanwhile", retry_after=0)
        self._done(record, Step.DELETE, "the volume is gone")

    def _give_up(self, record: Record, step: Step, message: str) -> None:
        """Only a person can help."""
        self._stuck.add(record.id)
        self._recorder.warning(record, step.failed, step.action, message)
        raise Waiting(AVAILABLE, step.failed, message, retry_after=RESYNC_SECONDS)

    def _done(self, record: Record, step: Step, message: str) -> None:
        self._recorder.normal(record, step.done, step.action, message)

    @contextmanager
    def _told(self, record: Record, step: Step) -> Iterator[None]:
        """Makes a failure an event; the runner logs and retries it."""
        try:
            with telemetry.step(step.action):
                yield
        except CephError as error:
            self._recorder.warning(record, step.failed, step.action, str(error))
            raise


def _release(stored: Record) -> None:
    stored.metadata.finalizers = [each for each in stored.metadata.finalizers if each != names.IMAGE_FINALIZER]
