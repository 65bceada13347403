"""Controller `machinepoollifecycle`: a pool whose poollet went silent is no longer Ready but Unknown."""

from __future__ import annotations

import asyncio
import time

from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.coordination.v1.lease_pb2 import Lease
from services.apimachinery.client.objects import Key
from services.apimachinery.runtime.conditions import UNKNOWN, find_condition, set_condition
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.common.logs import get_logger
from services.core.model import names
from services.core.model.lifecycle import READY, STATUS_UNKNOWN, UNKNOWN_MESSAGE, Heartbeats, Sign

log = get_logger(__name__)


class PoolLifecycle(Reconciler):
    """Watches leases and conditions of machine pools. `grace` (seconds) without a sign of life makes one Unknown."""

    def __init__(self, manager: Manager, grace: float) -> None:
        super().__init__("machine-pool-lifecycle")
        self._client = manager.client
        self._grace = grace
        self._heartbeats = Heartbeats(grace)
        self._pools = manager.informer(MachinePool)
        self._leases = manager.informer(Lease, names.MACHINE_POOL_LEASES)
        self.watch(self._pools)
        self.watch(self._leases, lambda lease: [Key("", lease.metadata.name)])

    async def reconcile(self, key: Key) -> float | None:
        """Notes a sign of life, or the silence; looks again when the grace period would end."""
        pool = self._pools.get(key.name)
        if pool is None:
            self._heartbeats.forget(key.name)
            return None
        now = asyncio.get_running_loop().time()
        self._heartbeats.observe(key.name, self._sign(pool), now)
        left = self._heartbeats.left(key.name, now)
        if left > 0:
            return left
        await self._report_silence(pool)
        return self._grace

    def _sign(self, pool: MachinePool) -> Sign:
        lease = self._leases.get(pool.metadata.name, names.MACHINE_POOL_LEASES)
        renewed = lease.spec.renew_time if lease is not None and lease.spec.HasField("renew_time") else None
        ready = find_condition(pool.status.conditions, READY)
        return Sign(
            renewed=(renewed.seconds, renewed.nanos) if renewed is not None else None,
            ready=(ready.status, ready.observed_generation) if ready is not None else None,
        )

    async def _report_silence(self, pool: MachinePool) -> None:
        ready = find_condition(pool.status.conditions, READY)
        if ready is not None and ready.status == UNKNOWN:
            return
        set_condition(
            pool.status.conditions,
            READY,
            UNKNOWN,
            STATUS_UNKNOWN,
            UNKNOWN_MESSAGE,
            observed_generation=pool.metadata.generation,
        )
        find_condition(pool.status.conditions, READY).last_update_time.seconds = int(time.time())  # type: ignore[union-attr]
        await self._client.update_status(pool)
        log.warning("pool went silent", pool=pool.metadata.name, grace=self._grace)
