"""Collects what a machine needs from other objects; whoever is not ready is named in `Waiting`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from protos.common.v1alpha1.common_pb2 import LocalUIDReference
from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pb2 import Machine, MachineVolume
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.iri.machine.v1alpha1 import machine_pb2 as iri
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.network_pb2 import Network
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.owners import is_controlled_by
from services.apimachinery.runtime.reconciler import Waiting
from services.core.model.names import ip_prefix
from services.core.poollets import classes
from services.core.poollets.keys import DEFAULT_IGNITION_KEY
from services.core.poollets.machine import desired
from services.core.poollets.machine.status import INTERFACES_READY, READY, VOLUMES_READY
from services.core.poollets.offers import Offers

HOLDER: Final = "holder"
"""Index of interfaces and volumes by the uid of the machine that has claimed them."""


@dataclass
class Wanted:
    """What the runtime is to have; `waits` is about what is not ready yet."""

    interfaces: list[iri.NetworkInterface] = field(default_factory=list)
    volumes: list[iri.Volume] = field(default_factory=list)
    waits: list[Waiting] = field(default_factory=list)


class Inputs:
    """The informers of everything that a machine refers to."""

    def __init__(self, manager: Manager, offers: Offers) -> None:
        self.classes = manager.informer(MachineClass)
        self.secrets: Informer[Secret] = manager.informer(Secret)
        self.interfaces = manager.informer(NetworkInterface)
        self.networks = manager.informer(Network)
        self.prefixes = manager.informer(Prefix)
        self.volumes = manager.informer(Volume)
        self.offers = offers
        self.interfaces.index(HOLDER, lambda interface: _holder(interface.spec.machine_ref))
        self.volumes.index(HOLDER, lambda volume: _holder(volume.spec.claim_ref))

    def runtime_class(self, machine: Machine) -> str:
        """The runtime's name for the machine's class. Raises Waiting."""
        name = machine.spec.machine_class_ref.name
        machine_class = self.classes.get(name)
        if machine_class is None:
            raise Waiting(READY, "MachineClassNotFound", f"machine class {name} does not exist")
        wanted = classes.capabilities(machine_class.capabilities)
        found = classes.match(name, wanted, self.offers.classes)
        if found is None:
            message = f"the runtime of this pool has no class with the capabilities of {name}: {wanted}"
            raise Waiting(READY, "MachineClassNotReady", message)
        return found

    def ignition(self, machine: Machine) -> bytes:
        """The ignition document; empty without a reference. Raises Waiting."""
        reference = machine.spec.ignition_ref
        if not reference.name:
            return b""
        key = reference.key or DEFAULT_IGNITION_KEY
        secret = self.secrets.get(reference.name, machine.metadata.namespace)
        if secret is None or key not in secret.data:
            what = f"secret {reference.name}" + (f" has no key {key}" if secret is not None else " does not exist")
            raise Waiting(READY, "IgnitionNotReady", what)
        return bytes(secret.data[key])

    def wanted(self, machine: Machine) -> Wanted:
        """Interfaces and volumes that are ready, in the order of the spec."""
        wanted = Wanted()
        names = desired.interface_names(machine)
        for interface_item in machine.spec.network_interfaces:
            try:
                wanted.interfaces.append(self._interface(machine, interface_item.name, names[interface_item.name]))
            except Waiting as wait:
                wanted.waits.append(wait)
        for volume_item in machine.spec.volumes:
            try:
                wanted.volumes.append(self._volume(machine, volume_item))
            except Waiting as wait:
                wanted.waits.append(wait)
        return wanted

    def claimed_interfaces(self, machine: Machine) -> dict[str, NetworkInterface]:
        """Item name → interface object that this machine has claimed."""
        found = {}
        for item, name in desired.interface_names(machine).items():
            interface = self.interfaces.get(name, machine.metadata.namespace)
            if interface is not None and interface.spec.machine_ref.uid == machine.metadata.uid:
                found[item] = interface
        return found

    def _interface(self, machine: Machine, item: str, name: str) -> iri.NetworkInterface:
        namespace = machine.metadata.namespace
        interface = self.interfaces.get(name, namespace)
        if interface is None:
            raise _interface_waits("NetworkInterfaceNotFound", f"network interface {name} does not exist")
        if interface.spec.machine_ref.uid != machine.metadata.uid:
            holder = interface.spec.machine_ref.name or "nobody yet"
            raise _interface_waits("NetworkInterfaceNotClaimed", f"network interface {name} is held by {holder}")
        network = self.networks.get(interface.spec.network_ref.name, namespace)
        if network is None:
            message = f"network {interface.spec.network_ref.name} of network interface {name} does not exist"
            raise _interface_waits("NetworkNotFound", message)
        if not network.spec.provider_id:
            message = f"network {network.metadata.name} has no providerID yet: the network plugin has to give it one"
            raise _interface_waits("NetworkNotReady", message)
        addresses = [
            source.value or self._allocated(interface, index) for index, source in enumerate(interface.spec.ips)
        ]
        return desired.interface(item, interface, network, addresses)

    def _allocated(self, interface: NetworkInterface, index: int) -> str:
        name = ip_prefix(interface.metadata.name, index)
        prefix = self.prefixes.get(name, interface.metadata.namespace)
        if prefix is None or not is_controlled_by(prefix, interface):
            raise _interface_waits("PrefixNotFound", f"prefix {name} of {interface.metadata.name} does not exist yet")
        if prefix.status.phase != "Allocated":
            message = f"prefix {name} of {interface.metadata.name} is not allocated yet"
            raise _interface_waits("PrefixNotAllocated", message)
        return str(prefix.spec.prefix).partition("/")[0]

    def _volume(self, machine: Machine, item: MachineVolume) -> iri.Volume:
        if item.HasField("local_disk") or item.HasField("empty_disk"):
            return desired.local_disk(item)
        name, namespace = desired.volume_names(machine)[item.name], machine.metadata.namespace
        volume = self.volumes.get(name, namespace)
        if volume is None:
            raise _volume_waits("VolumeNotFound", f"volume {name} does not exist")
        if volume.spec.claim_ref.uid != machine.metadata.uid:
            holder = volume.spec.claim_ref.name or (
                "nobody: it is unclaimable" if volume.spec.unclaimable else "nobody yet"
            )
            raise _volume_waits("VolumeNotClaimed", f"volume {name} is held by {holder}")
        if volume.status.state != "Available" or not volume.status.HasField("access"):
            state = volume.status.state or "Pending"
            pool = volume.spec.volume_pool_ref.name or "none yet"
            raise _volume_waits("VolumeNotReady", f"volume {name} is {state} (pool: {pool})")
        access = self._secret(volume.status.access.secret_ref.name, namespace, f"access secret of volume {name}")
        encryption = self._secret(
            volume.spec.encryption.secret_ref.name, namespace, f"encryption secret of volume {name}"
        )
        return desired.remote_volume(item, volume, access, encryption)

    def _secret(self, name: str, namespace: str, what: str) -> Secret | None:
        if not name:
            return None
        secret = self.secrets.get(name, namespace)
        if secret is None:
            raise _volume_waits("SecretNotFound", f"{what} ({name}) does not exist")
        return secret


def _holder(claim: LocalUIDReference) -> list[str]:
    return [claim.uid] if claim.uid else []


def _interface_waits(reason: str, message: str) -> Waiting:
    return Waiting(INTERFACES_READY, reason, message)


def _volume_waits(reason: str, message: str) -> Waiting:
    return Waiting(VOLUMES_READY, reason, message)
