"""Global NetworkInterface → metalnet NetworkInterface on its node; device and state come back."""

from __future__ import annotations

import ipaddress
from typing import Final

from protos.k8s.core.v1.node_pb2 import Node
from protos.metalnet.v1alpha1 import network_interface_pb2 as metalnet
from protos.net.v1alpha1 import network_interface_pb2 as net
from protos.net.v1alpha1 import network_pb2 as net_network
from services.apimachinery.client.objects import Key, is_deleting
from services.apimachinery.runtime.conditions import FALSE, TRUE, set_condition
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.net.model.origin import METALNETLET_NETWORK_INTERFACE as ORIGIN
from services.net.model.partition import Partition
from services.net.removal import RECHECK_SECONDS, removed

FIELD_MANAGER: Final = "metalnetlet.apinet.ironcore.dev/controller-manager"
READY: Final = "Ready"


class NetworkInterfaceReconciler(Reconciler):
    """One global NetworkInterface of this partition at a time."""

    def __init__(self, partition: Partition, net_manager: Manager, metalnet_manager: Manager, namespace: str) -> None:
        super().__init__("metalnetlet-networkinterface", workers=4)
        self._partition, self._namespace = partition, namespace
        self._net, self._metalnet = net_manager.client, metalnet_manager.client
        self._interfaces = net_manager.informer(net.NetworkInterface)
        self._interfaces.index("node", self._local_node)
        self._networks = net_manager.informer(net_network.Network)
        self._nodes = metalnet_manager.informer(Node)
        self._projections = metalnet_manager.informer(metalnet.NetworkInterface, namespace)
        self._projections.index("origin", ORIGIN.index)
        self.watch(self._interfaces)
        self.watch(self._projections, ORIGIN.keys)
        self.watch(self._networks, self._keys_in_network)
        self.watch(self._nodes, self._keys_on_node)

    async def reconcile(self, key: Key) -> float | None:
        """Projects and reports, or cleans up."""
        interface = self._interfaces.get(key.name, key.namespace)
        node = self._partition.local_node(interface.spec.node_ref.name) if interface is not None else None
        if interface is None or is_deleting(interface) or node is None:
            return await self._release(key, interface)
        if self._nodes.get(node) is None:
            # What the partition has of it stays: a node that only lost its registration still runs the machine.
            state = "Unknown" if has_finalizer(interface, self._partition.finalizer) else "Pending"
            message = f"node {node} is not registered in partition {self._partition.name}"
            await self._write_status(interface, waiting_status(interface, state, "NodeUnknown", message))
            return None
        interface = await ensure_finalizer(self._net, interface, self._partition.finalizer)
        network = self._networks.get(interface.spec.network_ref.name, key.namespace)
        if network is None:
            message = f"network {interface.spec.network_ref.name} does not exist in namespace {key.namespace}"
            await self._write_status(interface, waiting_status(interface, "Pending", "NetworkNotFound", message))
            return None
        projection = await self._ensure_projection(interface, network, node)
        await self._write_status(interface, reported_status(interface, projection))
        return None

    def _local_node(self, interface: net.NetworkInterface) -> list[str]:
        node = self._partition.local_node(interface.spec.node_ref.name)
        return [] if node is None else [node]

    def _keys_on_node(self, node: Node) -> list[Key]:
        found = self._interfaces.by_index("node", node.metadata.name)
        return [Key(interface.metadata.namespace, interface.metadata.name) for interface in found]

    def _keys_in_network(self, network: net_network.Network) -> list[Key]:
        return [
            Key(interface.metadata.namespace, interface.metadata.name)
            for interface in self._interfaces.items()
            if interface.spec.network_ref.name == network.metadata.name
            and interface.metadata.namespace == network.metadata.namespace
        ]

    async def _ensure_projection(
        self, interface: net.NetworkInterface, network: net_network.Network, node: str
    ) -> metalnet.NetworkInterface:
        wanted = metalnet.NetworkInterface()
        wanted.metadata.name, wanted.metadata.namespace = interface.metadata.uid, self._namespace
        ORIGIN.mark(wanted, interface)
        wanted.spec.CopyFrom(projected_spec(interface, network.metadata.uid, node))
        present = self._projections.get(wanted.metadata.name, self._namespace)
        if present is not None and _covers(present, wanted):
            return present
        return await self._metalnet.apply(wanted, FIELD_MANAGER)

    async def _write_status(self, interface: net.NetworkInterface, status: net.NetworkInterfaceStatus) -> None:
        if status != interface.status:
            written = net.NetworkInterface(metadata=interface.metadata, spec=interface.spec, status=status)
            await self._net.update_status(written)

    async def _release(self, key: Key, interface: net.NetworkInterface | None) -> float | None:
        gone = True
        for projection in self._projections.by_index("origin", str(key)):
            metadata = projection.metadata
            place = metadata.name, metadata.namespace
            gone = await removed(self._metalnet, metalnet.NetworkInterface, *place, uid=metadata.uid) and gone
        if not gone:
            return RECHECK_SECONDS  # its node holds it; of a node that is no more the partition's API lets go
        if interface is not None and has_finalizer(interface, self._partition.finalizer):
            await remove_finalizer(self._net, interface, self._partition.finalizer)
        return None


def projected_spec(interface: net.NetworkInterface, network: str, node: str) -> metalnet.NetworkInterfaceSpec:
    """What the partition is asked for; `network` is the name of the metalnet Network, `node` that of the local node."""
    spec = metalnet.NetworkInterfaceSpec(
        ip_families=[f"IPv{ipaddress.ip_address(ip).version}" for ip in interface.spec.ips],
        ips=interface.spec.ips,
        prefixes=interface.spec.prefixes,
        node_name=node,
    )
    spec.network_ref.name = network
    if interface.spec.HasField("hostname"):
        spec.hostname = interface.spec.hostname
    return spec


def reported_status(
    interface: net.NetworkInterface, projection: metalnet.NetworkInterface
) -> net.NetworkInterfaceStatus:
    """What the partition answers, in the global interface's terms."""
    status = net.NetworkInterfaceStatus()
    status.CopyFrom(interface.status)
    status.state = projection.status.state or "Pending"
    if projection.status.observed_generation >= projection.metadata.generation:
        status.observed_generation = interface.metadata.generation
    status.ClearField("pci_address")
    status.ClearField("tap_device")
    if projection.status.HasField("pci_address"):
        address = projection.status.pci_address
        status.pci_address.CopyFrom(
            net.PCIAddress(domain=address.domain, bus=address.bus, slot=address.slot, function=address.function)
        )
    if projection.status.HasField("tap_device"):
        status.tap_device.name = projection.status.tap_device.name
    del status.prefixes[:]
    status.prefixes.extend(projection.status.prefixes)
    told = {condition.type: condition for condition in projection.status.conditions}
    for condition in told.values():
        set_condition(status.conditions, condition.type, condition.status, condition.reason, condition.message)
    if READY not in told:
        node = projection.spec.node_name
        if status.state == "Ready":
            set_condition(status.conditions, READY, TRUE, "Programmed", f"node {node} carries it")
        else:
            set_condition(status.conditions, READY, FALSE, "Projected", f"node {node} reports {status.state}")
    return status


def waiting_status(
    interface: net.NetworkInterface, state: str, reason: str, message: str
) -> net.NetworkInterfaceStatus:
    """The status of an interface that can't be projected at the moment; the device it may have stays."""
    status = net.NetworkInterfaceStatus()
    status.CopyFrom(interface.status)
    status.state = state
    set_condition(status.conditions, READY, FALSE, reason, message)
    return status


def _covers(present: metalnet.NetworkInterface, wanted: metalnet.NetworkInterface) -> bool:
    return not is_deleting(present) and ORIGIN.key(present) == ORIGIN.key(wanted) and present.spec == wanted.spec
