"""Core NetworkInterface ↔ net NetworkInterface.

The net interface is made and deleted by the machine provider of a hypervisor; `spec.providerID` of the core interface
names it. Here it is adopted (it gets our origin marks and the routed prefixes), and its state is reported back.
"""

from __future__ import annotations

import time
from typing import Any, Final

from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.net.v1alpha1 import network_interface_pb2 as net
from protos.networking.v1alpha1 import network_interface_pb2 as core
from services.apimachinery.client.objects import Key, is_deleting, key_of
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.owners import controller_of, is_controlled_by
from services.apimachinery.runtime.reconciler import Reconciler
from services.net.model.origin import APINETLET_NETWORK_INTERFACE as ORIGIN
from services.net.model.provider_id import uid_in

FINALIZER: Final = "apinet.ironcore.dev/networkinterface"
STATES: Final = {"Ready": "Available", "Error": "Error"}


class NetworkInterfaceReconciler(Reconciler):
    """One core NetworkInterface at a time."""

    def __init__(self, core_manager: Manager, net_manager: Manager, net_namespace: str) -> None:
        super().__init__("apinetlet-networkinterface", workers=4)
        self._core, self._net, self._namespace = core_manager.client, net_manager.client, net_namespace
        self._interfaces = core_manager.informer(core.NetworkInterface)
        self._interfaces.index("projection", lambda interface: _projection_uids(interface))
        self._prefixes = core_manager.informer(Prefix)
        self._projections = net_manager.informer(net.NetworkInterface, net_namespace)
        self._projections.index("origin", ORIGIN.index)
        self._projections.index("uid", lambda projection: [projection.metadata.uid])
        self.watch(self._interfaces)
        self.watch(self._prefixes, _owner_interface)
        # By origin, and by uid: an interface that was named before it showed up here carries no origin yet.
        self.watch(self._projections, ORIGIN.keys)
        self.watch(self._projections, self._named_by)

    async def reconcile(self, key: Key) -> float | None:
        """Adopts, configures, reports, or lets go."""
        interface = self._interfaces.get(key.name, key.namespace)
        if interface is None or is_deleting(interface):
            for adopted in self._projections.by_index("origin", str(key)):
                await self._let_go(adopted)
            if interface is not None and has_finalizer(interface, FINALIZER):
                await remove_finalizer(self._core, interface, FINALIZER)
            return None
        interface = await ensure_finalizer(self._core, interface, FINALIZER)
        projection = await self._adopt(key, interface)
        if projection is not None:
            projection = await self._ensure_prefixes(interface, projection)
        await self._report(interface, projection)
        return None

    def _named_by(self, projection: net.NetworkInterface) -> list[Key]:
        return [key_of(named) for named in self._interfaces.by_index("projection", projection.metadata.uid)]

    async def _adopt(self, key: Key, interface: core.NetworkInterface) -> net.NetworkInterface | None:
        wanted = uid_in(interface.spec.provider_id)
        for projection in self._projections.by_index("origin", str(key)):
            if projection.metadata.uid != wanted:
                await self._let_go(projection)
        found = self._projections.by_index("uid", wanted) if wanted else []
        if not found or ORIGIN.key(found[0]) not in (None, key):
            return None
        projection = found[0]
        if ORIGIN.uid(projection) == interface.metadata.uid:
            return projection
        marks = net.NetworkInterface()
        ORIGIN.mark(marks, interface)
        metadata = {"labels": dict(marks.metadata.labels), "annotations": dict(marks.metadata.annotations)}
        return await self._patch(projection, {"metadata": metadata})

    async def _ensure_prefixes(
        self, interface: core.NetworkInterface, projection: net.NetworkInterface
    ) -> net.NetworkInterface:
        wanted = []
        for index, source in enumerate(interface.spec.prefixes):
            prefix = source.value or self._allocated(interface, f"{interface.metadata.name}-pf-{index}")
            if prefix:
                wanted.append(prefix)
        if wanted == list(projection.spec.prefixes):
            return projection
        return await self._patch(projection, {"spec": {"prefixes": wanted}})

    def _allocated(self, interface: core.NetworkInterface, name: str) -> str:
        prefix = self._prefixes.get(name, interface.metadata.namespace)
        if prefix is None or not is_controlled_by(prefix, interface) or prefix.status.phase != "Allocated":
            return ""
        return str(prefix.spec.prefix)

    async def _report(self, interface: core.NetworkInterface, projection: net.NetworkInterface | None) -> None:
        status = core.NetworkInterfaceStatus()
        status.CopyFrom(interface.status)
        status.state = STATES.get(projection.status.state, "Pending") if projection is not None else "Pending"
        del status.ips[:], status.prefixes[:]
        if projection is not None:
            status.ips.extend(projection.spec.ips)
            status.prefixes.extend(projection.spec.prefixes)
        if status.state != interface.status.state or not status.HasField("last_state_transition_time"):
            status.last_state_transition_time.seconds = int(time.time())
        if status != interface.status:
            reported = core.NetworkInterface(metadata=interface.metadata, spec=interface.spec, status=status)
            await self._core.update_status(reported)

    async def _let_go(self, projection: net.NetworkInterface) -> None:
        labels = dict.fromkeys([ORIGIN.uid_label, ORIGIN.namespace_label])
        metadata = {"labels": labels, "annotations": {ORIGIN.name_annotation: None}}
        try:
            await self._patch(projection, {"metadata": metadata, "spec": {"publicIPs": None, "prefixes": None}})
        except NotFound:
            pass

    async def _patch(self, projection: net.NetworkInterface, patch: dict[str, Any]) -> net.NetworkInterface:
        metadata = projection.metadata
        return await self._net.patch(net.NetworkInterface, metadata.name, patch, metadata.namespace)


def _projection_uids(interface: core.NetworkInterface) -> list[str]:
    uid = uid_in(interface.spec.provider_id)
    return [uid] if uid else []


def _owner_interface(prefix: Prefix) -> list[Key]:
    owner = controller_of(prefix)
    if owner is None or owner.kind != "NetworkInterface":
        return []
    return [Key(prefix.metadata.namespace, owner.name)]
