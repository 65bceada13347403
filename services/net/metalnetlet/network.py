"""Global Network → metalnet Network of the same uid, in partitions that have an interface in it.

A partition without interfaces of a network neither carries it nor holds its deletion up.
"""

from __future__ import annotations

from typing import Final

from protos.metalnet.v1alpha1 import network_pb2 as metalnet
from protos.net.v1alpha1 import network_interface_pb2 as net_interface
from protos.net.v1alpha1 import network_pb2 as net
from services.apimachinery.client.objects import Key, is_deleting
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.net.model.origin import METALNETLET_NETWORK as ORIGIN
from services.net.model.partition import Partition
from services.net.removal import RECHECK_SECONDS, removed

FIELD_MANAGER: Final = "metalnetlet.apinet.ironcore.dev/controller-manager"


class NetworkReconciler(Reconciler):
    """One global Network at a time."""

    def __init__(self, partition: Partition, net_manager: Manager, metalnet_manager: Manager, namespace: str) -> None:
        super().__init__("metalnetlet-network", workers=4)
        self._partition, self._namespace = partition, namespace
        self._net, self._metalnet = net_manager.client, metalnet_manager.client
        self._networks = net_manager.informer(net.Network)
        self._interfaces = net_manager.informer(net_interface.NetworkInterface)
        self._interfaces.index("network", self._network_here)
        self._projections = metalnet_manager.informer(metalnet.Network, namespace)
        self._projections.index("origin", ORIGIN.index)
        self.watch(self._networks)
        self.watch(self._interfaces, lambda interface: [_network_key(interface)])
        self.watch(self._projections, ORIGIN.keys)

    async def reconcile(self, key: Key) -> float | None:
        """Projects the network while an interface here needs it."""
        network = self._networks.get(key.name, key.namespace)
        if network is not None and self._interfaces.by_index("network", str(key)):
            if is_deleting(network) and not has_finalizer(network, self._partition.finalizer):
                return None  # it goes without having been carried here: whoever came late waits for another
            network = await ensure_finalizer(self._net, network, self._partition.finalizer)
            await self._ensure_projection(network)
            return None
        gone = True
        for projection in self._projections.by_index("origin", str(key)):
            metadata = projection.metadata
            place = metadata.name, metadata.namespace
            gone = await removed(self._metalnet, metalnet.Network, *place, uid=metadata.uid) and gone
        if not gone:
            return RECHECK_SECONDS
        if network is not None and has_finalizer(network, self._partition.finalizer):
            await remove_finalizer(self._net, network, self._partition.finalizer)
        return None

    def _network_here(self, interface: net_interface.NetworkInterface) -> list[str]:
        here = self._partition.local_node(interface.spec.node_ref.name) is not None
        return [str(_network_key(interface))] if here else []

    async def _ensure_projection(self, network: net.Network) -> None:
        wanted = metalnet.Network()
        wanted.metadata.name, wanted.metadata.namespace = network.metadata.uid, self._namespace
        ORIGIN.mark(wanted, network)
        wanted.spec.id = int(network.spec.id)
        present = self._projections.get(wanted.metadata.name, self._namespace)
        if present is None or present.spec.id != wanted.spec.id or ORIGIN.key(present) != ORIGIN.key(wanted):
            await self._metalnet.apply(wanted, FIELD_MANAGER)


def _network_key(interface: net_interface.NetworkInterface) -> Key:
    return Key(interface.metadata.namespace, interface.spec.network_ref.name)
