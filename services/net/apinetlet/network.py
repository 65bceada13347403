"""Core Network → net Network of the same uid; its VNI comes back in `spec.providerID`."""

from __future__ import annotations

from typing import Final

from protos.net.v1alpha1 import network_pb2 as net
from protos.networking.v1alpha1 import network_pb2 as core
from services.apimachinery.client.objects import Key, is_deleting
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.net.model.origin import APINETLET_NETWORK as ORIGIN
from services.net.model.provider_id import ProviderId

FINALIZER: Final = "apinet.ironcore.dev/network"
FIELD_MANAGER: Final = "ironcore.dev/apinetlet"


class NetworkReconciler(Reconciler):
    """One core Network at a time."""

    def __init__(self, core_manager: Manager, net_manager: Manager, net_namespace: str) -> None:
        super().__init__("apinetlet-network", workers=4)
        self._core, self._net, self._namespace = core_manager.client, net_manager.client, net_namespace
        self._networks = core_manager.informer(core.Network)
        self._projections = net_manager.informer(net.Network, net_namespace)
        self._projections.index("origin", ORIGIN.index)
        self.watch(self._networks)
        self.watch(self._projections, ORIGIN.keys)

    async def reconcile(self, key: Key) -> float | None:
        """Projects, reports, or cleans up."""
        network = self._networks.get(key.name, key.namespace)
        if network is None:
            await self._release_dangling(key)
            return None
        if is_deleting(network):
            await self._release(network)
            return None
        network = await ensure_finalizer(self._core, network, FINALIZER)
        projection = await self._ensure_projection(network)
        await self._report(network, projection)
        return None

    async def _ensure_projection(self, network: core.Network) -> net.Network:
        wanted = net.Network()
        wanted.metadata.name, wanted.metadata.namespace = network.metadata.uid, self._namespace
        ORIGIN.mark(wanted, network)
        wanted.spec.SetInParent()
        present = self._projections.get(network.metadata.uid, self._namespace)
        if present is not None and ORIGIN.key(present) == ORIGIN.key(wanted):
            return present
        return await self._net.apply(wanted, FIELD_MANAGER)

    async def _report(self, network: core.Network, projection: net.Network) -> None:
        metadata = projection.metadata
        provider_id = str(ProviderId(metadata.namespace, metadata.name, projection.spec.id, metadata.uid))
        if not network.spec.provider_id:
            patch = {"spec": {"providerID": provider_id}}
            await self._core.patch(core.Network, network.metadata.name, patch, network.metadata.namespace)
        if network.status.state != "Available":
            await self._core.patch(
                core.Network,
                network.metadata.name,
                {"status": {"state": "Available"}},
                network.metadata.namespace,
                subresource="status",
            )

    async def _release(self, network: core.Network) -> None:
        if not has_finalizer(network, FINALIZER):
            return
        try:
            await self._net.delete(net.Network, network.metadata.uid, self._namespace)
        except NotFound:
            await remove_finalizer(self._core, network, FINALIZER)
        # Else the projection's own finalizers hold it: its disappearance wakes this network again.

    async def _release_dangling(self, key: Key) -> None:
        for projection in self._projections.by_index("origin", str(key)):
            if not is_deleting(projection):
                await self._delete(projection)

    async def _delete(self, projection: net.Network) -> None:
        metadata = projection.metadata
        try:
            await self._net.delete(net.Network, metadata.name, metadata.namespace, uid=metadata.uid)
        except NotFound:
            pass
