"""The VolumePool itself: what it offers and what is left of it."""

from __future__ import annotations

from typing import Final

from protos.storage.v1alpha1.volume_class_pb2 import VolumeClass
from protos.storage.v1alpha1.volume_pb2 import Volume
from protos.storage.v1alpha1.volume_pool_pb2 import VolumePool
from services.apimachinery.client.objects import Key
from services.apimachinery.runtime.conditions import FALSE, TRUE, set_condition
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.apimachinery.schema.quantity import Format, Quantity
from services.core.model.names import class_key
from services.core.poollets import classes
from services.core.poollets.offers import Offers
from services.core.poollets.volume.translate import requested_bytes

FIELD_MANAGER: Final = "volumepoollet.ironcore.dev/field-owner"


class PoolReconciler(Reconciler):
    """Keeps the status of our pool."""

    def __init__(
        self,
        manager: Manager,
        pool: str,
        provider_id: str,
        labels: dict[str, str],
        volumes: Informer[Volume],
        offers: Offers,
    ) -> None:
        super().__init__("volumepoollet-pool")
        self._client, self._name, self._provider_id, self._labels = manager.client, pool, provider_id, labels
        self._volumes, self._offers = volumes, offers
        self._pools = manager.informer(VolumePool, fields=f"metadata.name={pool}")
        self._classes = manager.informer(VolumeClass)
        own = Key("", pool)
        self.watch(self._pools)
        self.watch(self._classes, lambda volume_class: [own])
        self.watch(volumes, lambda volume: [own])
        offers.on_change(lambda: self.queue.add(own))

    async def reconcile(self, key: Key) -> float | None:
        """Writes the status if it differs."""
        pool = self._pools.get(key.name)
        if pool is None or self._labels.items() - pool.metadata.labels.items():
            wanted = VolumePool()
            wanted.metadata.name = self._name
            wanted.metadata.labels.update(self._labels)
            wanted.spec.provider_id = self._provider_id
            pool = await self._client.apply(wanted, FIELD_MANAGER)
        status = VolumePool()
        status.CopyFrom(pool)
        self._fill(status)
        if status.status != pool.status:
            await self._client.update_status(status)
        return None

    def _fill(self, pool: VolumePool) -> None:
        status, used = pool.status, self._used()
        del status.available_volume_classes[:]
        status.capacity.clear()
        status.allocatable.clear()
        wanted = {item.metadata.name: classes.capabilities(item.capabilities) for item in self._classes.items()}
        for name, share in classes.shares(wanted, self._offers.classes, self._offers.quantities, used).items():
            status.available_volume_classes.add(name=name)
            status.capacity[class_key("volume", name)] = _bytes(share.capacity)
            status.allocatable[class_key("volume", name)] = _bytes(share.allocatable)
        problem = self._offers.problem
        status.state = "Unavailable" if problem else "Available"
        reason, message = ("RuntimeUnreachable", problem) if problem else ("RuntimeReady", "the runtime answers")
        set_condition(status.conditions, "Ready", FALSE if problem else TRUE, reason, message)

    def _used(self) -> dict[str, int]:
        used: dict[str, int] = {}
        for volume in self._volumes.items():
            name = volume.spec.volume_class_ref.name
            used[name] = used.get(name, 0) + requested_bytes(volume)
        return used


def _bytes(size: int) -> str:
    return str(Quantity(size * 10**9, Format.BINARY))
