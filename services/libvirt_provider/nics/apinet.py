"""Interfaces of the network control plane: a NetworkInterface is made there, its node answers with a device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.net.v1alpha1.network_interface_pb2 import NetworkInterface, NetworkInterfaceSpec
from protos.net.v1alpha1.types_pb2 import LocalObjectReference
from services.apimachinery.client.interface import Client
from services.apimachinery.errors import ApiError, NotFound
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.reconciler import Waiting
from services.common.logs import get_logger
from services.libvirt_provider.model.devices import Backing, Nic, PciDevice, Tap
from services.libvirt_provider.model.naming import derived_uuid, mac_address
from services.libvirt_provider.model.refusals import Invalid

log = get_logger(__name__)

SCHEME: Final = "ironcore-net://"
MACHINE_LABEL: Final = "libvirt-provider.ironcore.dev/machine-id"
FIELD_MANAGER: Final = "networking.ironcore.dev/libvirt-provider"
# The condition that tells a machine's client what it waits for.
READY: Final = "Ready"


@dataclass(frozen=True)
class NetworkId:
    """What a network's provider id says: `ironcore-net://namespace/name/id/uid`."""

    namespace: str
    name: str


def parse_network_id(text: str) -> NetworkId:
    """Reads a provider id, with or without the scheme; ValueError unless it has four parts."""
    parts = text.removeprefix(SCHEME).split("/")
    if len(parts) != 4 or not all(parts):
        raise ValueError(f"{text!r} is not {SCHEME}namespace/name/id/uid")
    return NetworkId(parts[0], parts[1])


def handle_of(interface: NetworkInterface) -> str:
    """What the client gets as the interface's handle: namespace, name, node and UID."""
    metadata = interface.metadata
    return f"{SCHEME}{metadata.namespace}/{metadata.name}/{interface.spec.node_ref.name}/{metadata.uid}"


def backing_of(interface: NetworkInterface) -> Backing:
    """The device of an interface that is ready; raises Waiting when it is not, ValueError when its status is absurd."""
    name, status = f"{interface.metadata.namespace}/{interface.metadata.name}", interface.status
    if status.state == "Error":
        raise Waiting(READY, "NetworkInterfaceError", f"network interface {name} is in state Error on its node")
    if status.state != "Ready":
        raise Waiting(
            READY,
            "NetworkInterfaceNotReady",
            f"network interface {name} is {status.state or 'new'}: its node must give it a device",
        )
    if status.HasField("pci_address") == status.HasField("tap_device"):
        raise ValueError(f"network interface {name} is Ready but has not exactly one of pciAddress and tapDevice")
    if status.HasField("tap_device"):
        return Tap(status.tap_device.name)
    pci = status.pci_address
    return PciDevice(pci.domain, pci.bus, pci.slot, pci.function)


class ApinetNics:
    """`apinet`: one NetworkInterface per interface, on the node that this host is to the control plane."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._deleted: set[str] = set()
        self._interfaces = Informer(client, NetworkInterface, fields=f"spec.nodeRef.name={node}")

    def check(self, nic: pb.NetworkInterface) -> None:
        try:
            parse_network_id(nic.network_id)
        except ValueError as error:
            raise Invalid("network_interface.network_id", str(error)) from None

    async def ensure(self, machine: pb.Machine, nic: pb.NetworkInterface) -> Nic:
        network = parse_network_id(nic.network_id)
        wanted = self._wanted(machine, nic, network)
        present = await self._present(wanted.metadata.name, network.namespace)
        if present is None:
            present = await self._client.apply(wanted, FIELD_MANAGER)
        if present.metadata.HasField("deletion_timestamp"):
            raise Waiting(
                READY, "NetworkInterfaceLeaving", f"network interface {present.metadata.name} is being deleted"
            )
        mac = mac_address(machine.metadata.id, nic.name)
        return Nic(nic.name, mac, backing_of(present), handle_of(present))

    async def release(self, machine_id: str, nic: pb.NetworkInterface) -> None:
        name = str(derived_uuid(f"{machine_id}/{nic.name}"))
        self._deleted.add(name)
        await self._delete(name, parse_network_id(nic.network_id).namespace)

    async def run(self, wake: Callable[[str], None], known: Callable[[str], bool]) -> None:
        orphans: asyncio.Queue[NetworkInterface] = asyncio.Queue()

        def changed(old: NetworkInterface | None, new: NetworkInterface | None) -> None:
            machine_id = (new or old or NetworkInterface()).metadata.labels.get(MACHINE_LABEL, "")
            if known(machine_id):
                wake(machine_id)
            elif machine_id and new is not None and not new.metadata.HasField("deletion_timestamp"):
                orphans.put_nowait(new)

        self._interfaces.on_change(changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._interfaces.run(), name="network interfaces")
            group.create_task(self._collect(orphans, known), name="orphaned network interfaces")

    async def _collect(self, orphans: asyncio.Queue[NetworkInterface], known: Callable[[str], bool]) -> None:
        """Deletes interfaces of machines that are gone, left by a provider that was killed while it deleted one."""
        while True:
            orphan = await orphans.get()
            if known(orphan.metadata.labels[MACHINE_LABEL]):
                continue
            try:
                await self._delete(orphan.metadata.name, orphan.metadata.namespace)
                log.info("orphaned network interface deleted", interface=orphan.metadata.name)
            except ApiError as error:
                log.warning("orphaned network interface stays", interface=orphan.metadata.name, error=error.message)

    async def _present(self, name: str, namespace: str) -> NetworkInterface | None:
        """From the cache, but not right after we deleted an interface of that name: the cache may not know it yet."""
        if name not in self._deleted:
            return self._interfaces.get(name, namespace)
        try:
            present = await self._client.get(NetworkInterface, name, namespace)
        except NotFound:
            self._deleted.discard(name)
            return None
        return present

    async def _delete(self, name: str, namespace: str) -> None:
        try:
            await self._client.delete(NetworkInterface, name, namespace)
        except NotFound:
            pass

    def _wanted(self, machine: pb.Machine, nic: pb.NetworkInterface, network: NetworkId) -> NetworkInterface:
        spec = NetworkInterfaceSpec(
            node_ref=LocalObjectReference(name=self._node),
            network_ref=LocalObjectReference(name=network.name),
            ips=nic.ips,
        )
        if machine.spec.guest_config.hostname:
            spec.hostname = machine.spec.guest_config.hostname
        metadata = ObjectMeta(
            name=str(derived_uuid(f"{machine.metadata.id}/{nic.name}")),
            namespace=network.namespace,
            labels={MACHINE_LABEL: machine.metadata.id},
        )
        return NetworkInterface(metadata=metadata, spec=spec)
