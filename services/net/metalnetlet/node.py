"""Node of the partition → global Node `<partition>.<name>`."""

from __future__ import annotations

from collections.abc import Mapping

from protos.k8s.core.v1 import node_pb2 as local
from protos.net.v1alpha1 import node_pb2 as net
from services.apimachinery.client.objects import Key, is_deleting
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.net.model.partition import NODE_FINALIZER, PARTITION_LABEL, Partition
from services.net.removal import RECHECK_SECONDS, removed


class NodeReconciler(Reconciler):
    """One node of the partition at a time; `labels` (a zone, for example) go onto each global Node."""

    def __init__(
        self, partition: Partition, net_manager: Manager, metalnet_manager: Manager, labels: Mapping[str, str]
    ) -> None:
        super().__init__("metalnetlet-node")
        self._partition, self._labels = partition, dict(labels)
        self._net, self._metalnet = net_manager.client, metalnet_manager.client
        self._nodes = metalnet_manager.informer(local.Node)
        self._global_nodes = net_manager.informer(net.Node)
        self.watch(self._nodes)
        self.watch(self._global_nodes, self._local_key)

    async def reconcile(self, key: Key) -> float | None:
        """Registers the node, or removes it."""
        node = self._nodes.get(key.name)
        if node is not None and not is_deleting(node):
            await ensure_finalizer(self._metalnet, node, NODE_FINALIZER)
            await self._ensure_global(key.name)
            return None
        name = self._partition.node_name(key.name)
        if (node is not None or self._global_nodes.get(name) is not None) and not await removed(
            self._net, net.Node, name
        ):
            return RECHECK_SECONDS
        if node is not None and has_finalizer(node, NODE_FINALIZER):
            await remove_finalizer(self._metalnet, node, NODE_FINALIZER)
        return None

    def _local_key(self, node: net.Node) -> list[Key]:
        name = self._partition.local_node(node.metadata.name)
        return [] if name is None else [Key("", name)]

    async def _ensure_global(self, name: str) -> None:
        wanted = net.Node()
        wanted.metadata.name = self._partition.node_name(name)
        wanted.metadata.labels.update({PARTITION_LABEL: self._partition.name} | self._labels)
        present = self._global_nodes.get(wanted.metadata.name)
        if present is None or wanted.metadata.labels.items() - present.metadata.labels.items():
            await self._net.apply(wanted, self._partition.finalizer)
