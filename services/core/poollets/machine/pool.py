"""The MachinePool itself: what it offers, whether it is ready, and its heartbeat."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from typing import Any, Final

from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.coordination.v1.lease_pb2 import Lease
from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import Key
from services.apimachinery.errors import ApiError, NotFound
from services.apimachinery.runtime.conditions import FALSE, TRUE, set_condition
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.apimachinery.runtime.times import micro_time
from services.common.logs import get_logger
from services.core.model.names import MACHINE_POOL_LEASES, class_key
from services.core.poollets import classes
from services.core.poollets.offers import Offers

log = get_logger(__name__)

FIELD_MANAGER: Final = "machinepoollet.ironcore.dev/field-owner"


class PoolReconciler(Reconciler):
    """Keeps the status of our pool: classes, capacity, what is left of it, readiness."""

    def __init__(
        self,
        manager: Manager,
        pool: str,
        provider_id: str,
        labels: dict[str, str],
        machines: Informer[Machine],
        offers: Offers,
    ) -> None:
        super().__init__("machinepoollet-pool")
        self._client, self._name, self._provider_id, self._labels = manager.client, pool, provider_id, labels
        self._machines, self._offers = machines, offers
        self._pools = manager.informer(MachinePool, fields=f"metadata.name={pool}")
        self._classes = manager.informer(MachineClass)
        own = [Key("", pool)]
        self.watch(self._pools)
        self.watch(self._classes, lambda machine_class: own)
        self.watch(machines, lambda machine: own)
        offers.on_change(lambda: self.queue.add(own[0]))

    async def reconcile(self, key: Key) -> float | None:
        """Writes the status if it differs."""
        pool = self._pools.get(key.name)
        if pool is None or self._labels.items() - pool.metadata.labels.items():
            pool = await self._ensure_pool()
        status = MachinePool()
        status.CopyFrom(pool)
        self._fill(status)
        if status.status != pool.status:
            await self._client.update_status(status)
        return None

    async def _ensure_pool(self) -> MachinePool:
        wanted = MachinePool()
        wanted.metadata.name = self._name
        wanted.metadata.labels.update(self._labels)
        wanted.spec.provider_id = self._provider_id
        return await self._client.apply(wanted, FIELD_MANAGER)

    def _fill(self, pool: MachinePool) -> None:
        status = pool.status
        del status.available_machine_classes[:]
        status.capacity.clear()
        status.allocatable.clear()
        used = Counter(machine.spec.machine_class_ref.name for machine in self._machines.items())
        wanted = {item.metadata.name: classes.capabilities(item.capabilities) for item in self._classes.items()}
        for name, share in classes.shares(wanted, self._offers.classes, self._offers.quantities, used).items():
            status.available_machine_classes.add(name=name)
            status.capacity[class_key("machine", name)] = str(share.capacity)
            status.allocatable[class_key("machine", name)] = str(share.allocatable)
        problem = self._offers.problem
        status.state = "Error" if problem else "Ready"
        set_condition(
            status.conditions,
            "Ready",
            FALSE if problem else TRUE,
            "RuntimeUnreachable" if problem else "HeartbeatReceived",
            problem or "the runtime answers",
            observed_generation=pool.metadata.generation,
        )


class Heartbeat:
    """Renews the pool's lease, so that the control plane can tell a silent poollet from a quiet one."""

    def __init__(self, client: Client, pool: str, interval: float, duration: int) -> None:
        self._client, self._pool, self._interval, self._duration = client, pool, interval, duration
        self._holder = f"{pool}_{uuid.uuid4()}"

    async def run(self) -> None:
        """Until cancelled; a failure is tried again after an interval."""
        while True:
            try:
                await self._renew()
            except ApiError as error:
                log.warning("heartbeat failed", error=error.message)
            await asyncio.sleep(self._interval)

    async def _renew(self) -> None:
        try:
            lease = await self._client.get(Lease, self._pool, MACHINE_POOL_LEASES)
        except NotFound:
            await self._create()
            return
        now = micro_time(time.time())
        if lease.spec.holder_identity != self._holder:
            lease.spec.holder_identity = self._holder
            lease.spec.acquire_time.CopyFrom(now)
        lease.spec.lease_duration_seconds = self._duration
        lease.spec.renew_time.CopyFrom(now)
        await self._client.update(lease)

    async def _create(self) -> None:
        lease: Any = Lease()
        lease.metadata.name, lease.metadata.namespace = self._pool, MACHINE_POOL_LEASES
        lease.spec.holder_identity, lease.spec.lease_duration_seconds = self._holder, self._duration
        lease.spec.renew_time.CopyFrom(micro_time(time.time()))
        lease.spec.acquire_time.CopyFrom(lease.spec.renew_time)
        await self._client.create(lease)
