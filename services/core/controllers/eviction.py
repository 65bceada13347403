"""Controller `machineeviction`: machines that don't tolerate a NoExecute taint of their pool are deleted."""

from __future__ import annotations

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from services.apimachinery.client.objects import Key, is_deleting, key_of
from services.apimachinery.errors import Conflict, NotFound
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.apimachinery.runtime.recorder import NORMAL
from services.common.logs import get_logger
from services.core.model.tolerations import evicting

log = get_logger(__name__)

_BY_POOL = "machine-eviction/pool"


class Eviction(Reconciler):
    """Deletes intolerant machines at once; nothing creates them anew."""

    def __init__(self, manager: Manager) -> None:
        super().__init__("machine-eviction")
        self._client = manager.client
        self._events = manager.recorder("machine-eviction")
        self._machines = manager.informer(Machine)
        self._pools = manager.informer(MachinePool)
        self._machines.index(_BY_POOL, lambda machine: [machine.spec.machine_pool_ref.name])
        self.watch(self._machines)
        self.watch(self._pools, self._on_pool)

    async def reconcile(self, key: Key) -> float | None:
        """Compares the machine's tolerations with the taints of its pool."""
        machine = self._machines.get(key.name, key.namespace)
        if machine is None or is_deleting(machine) or not machine.spec.machine_pool_ref.name:
            return None
        pool = self._pools.get(machine.spec.machine_pool_ref.name)
        taints = evicting(pool.spec.taints, machine.spec.tolerations) if pool is not None else []
        if not taints:
            return None
        try:
            await self._client.delete(Machine, key.name, key.namespace, uid=machine.metadata.uid)
        except (NotFound, Conflict):
            return None
        taint, name = taints[0].key, machine.spec.machine_pool_ref.name
        log.info("machine evicted", pool=name, taint=taint)
        note = f"pool {name} has taint {taint} with effect NoExecute, which the machine does not tolerate"
        self._events.event(machine, NORMAL, "Evicted", note, action="Eviction")
        return None

    def _on_pool(self, pool: MachinePool) -> list[Key]:
        if not evicting(pool.spec.taints, []):
            return []  # heartbeats of pools without such taints concern nobody
        return [key_of(machine) for machine in self._machines.by_index(_BY_POOL, pool.metadata.name)]
