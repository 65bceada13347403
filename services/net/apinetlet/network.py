"""Core Network → net Network of the same uid; its VNI comes back in `spec.providerID`."""

from __future__ import annotations

from typing import Final

from protos.net.v1alpha1 import network_pb2 as net
from protos.networking.v1alpha1 import network_pb2 as core
from services.apimachinery.client.objects import Key, is_deleting
from services.apimachinery.errors import ApiError, NotFound
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.net.model.origin import APINETLET_NETWORK as ORIGIN
from services.net.model.provider_id import ProviderId, vni_in
from services.net.removal import RECHECK_SECONDS, removed

FINALIZER: Final = "apinet.ironcore.dev/network"
FIELD_MANAGER: Final = "ironcore.dev/apinetlet"


class NetworkReconciler(Reconciler):
    """One core Network at a time."""

    def __init__(self, core_manager: Manager, net_manager: Manager, net_namespace: str) -> None:
        super().__init__("apinetlet-network", workers=4)
        self._core, self._net, self._namespace = core_manager.client, net_manager.client, net_namespace
        self._recorder = core_manager.recorder("apinetlet")
        self._networks = core_manager.informer(core.Network)
        self._projections = net_manager.informer(net.Network, net_namespace)
        self._projections.index("origin", ORIGIN.index)
        self.watch(self._networks)
        self.watch(self._projections, ORIGIN.keys)

    async def reconcile(self, key: Key) -> float | None:
        """Projects, reports, or cleans up."""
        network = self._networks.get(key.name, key.namespace)
        await self._delete_dangling(key, network)
        if network is None:
            return None
        if is_deleting(network):
            return await self._release(network)
        network = await ensure_finalizer(self._core, network, FINALIZER)
        projection = await self._ensure_projection(network)
        await self._report(network, projection)
        return None

    async def on_error(self, key: Key, error: Exception) -> None:
        """Tells the user why the network has no number."""
        network = self._networks.get(key.name, key.namespace)
        if network is None or not isinstance(error, ApiError):
            return
        self._recorder.event(network, "Warning", "ProjectionFailed", error.message, action="Projecting")
        if not network.status.state:
            await self._report_state(network, "Pending")

    async def _ensure_projection(self, network: core.Network) -> net.Network:
        wanted = net.Network()
        wanted.metadata.name, wanted.metadata.namespace = network.metadata.uid, self._namespace
        ORIGIN.mark(wanted, network)
        wanted.spec.SetInParent()
        present = self._projections.get(network.metadata.uid, self._namespace)
        if present is not None and ORIGIN.key(present) == ORIGIN.key(wanted):
            return present
        if present is None:
            # A number that has been told can't be told anew: a projection that was lost gets it back.
            wanted.spec.id = vni_in(network.spec.provider_id)
        return await self._net.apply(wanted, FIELD_MANAGER)

    async def _report(self, network: core.Network, projection: net.Network) -> None:
        metadata = projection.metadata
        provider_id = str(ProviderId(metadata.namespace, metadata.name, projection.spec.id, metadata.uid))
        if not network.spec.provider_id:
            patch = {"spec": {"providerID": provider_id}}
            await self._core.patch(core.Network, network.metadata.name, patch, network.metadata.namespace)
        if network.status.state != "Available":
            await self._report_state(network, "Available")

    async def _report_state(self, network: core.Network, state: str) -> None:
        metadata, patch = network.metadata, {"status": {"state": state}}
        await self._core.patch(core.Network, metadata.name, patch, metadata.namespace, subresource="status")

    async def _release(self, network: core.Network) -> float | None:
        if not has_finalizer(network, FINALIZER):
            return None
        if not await removed(self._net, net.Network, network.metadata.uid, self._namespace):
            return RECHECK_SECONDS  # partitions that carry the network hold it
        await remove_finalizer(self._core, network, FINALIZER)
        return None

    async def _delete_dangling(self, key: Key, network: core.Network | None) -> None:
        """Deletes projections of a network that is gone, also when there is a new one of the same name."""
        uid = "" if network is None else network.metadata.uid
        dangling = [found for found in self._projections.by_index("origin", str(key)) if ORIGIN.uid(found) != uid]
        if not dangling:
            return
        try:
            # Numbers in use are at stake: a cache may be behind.
            uid = (await self._core.get(core.Network, key.name, key.namespace)).metadata.uid
        except NotFound:
            uid = ""
        for projection in dangling:
            metadata = projection.metadata
            if ORIGIN.uid(projection) != uid and not is_deleting(projection):
                await removed(self._net, net.Network, metadata.name, metadata.namespace, uid=metadata.uid)
