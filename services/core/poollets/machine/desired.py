"""What the runtime is asked for: IRI messages made from objects of the API. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from protos.compute.v1alpha1.machine_pb2 import Machine, MachineVolume
from protos.iri.machine.v1alpha1 import machine_pb2 as iri
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.network_pb2 import Network
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.objects import metadata_of
from services.apimachinery.schema.quantity import Quantity
from services.core.model.names import machine_child
from services.core.poollets.keys import (
    INTERFACE_MAPPING,
    MACHINE,
    MACHINE_GENERATION,
    MACHINE_PREFIX,
    RAW_INTERFACE_LABELS,
    RAW_NETWORK_LABELS,
    RAW_VOLUME_LABELS,
    RUNTIME_GENERATION,
)


def interface_names(machine: Machine) -> dict[str, str]:
    """Item name → name of the NetworkInterface object."""
    return {
        item.name: item.network_interface_ref.name
        if item.HasField("network_interface_ref")
        else machine_child(machine.metadata.name, item.name)
        for item in machine.spec.network_interfaces
    }


def volume_names(machine: Machine) -> dict[str, str]:
    """Item name → name of the Volume object, for items that have one."""
    names = {}
    for item in machine.spec.volumes:
        if item.HasField("volume_ref"):
            names[item.name] = item.volume_ref.name
        elif item.HasField("ephemeral"):
            names[item.name] = machine_child(machine.metadata.name, item.name)
    return names


def machine_annotations(
    machine: Machine, runtime_generation: int, interfaces: Mapping[str, NetworkInterface]
) -> dict[str, str]:
    """What the poollet wants to find again: generations, and which interface object each item stands for."""
    mapping = {
        item: {"name": interface.metadata.name, "uid": interface.metadata.uid} for item, interface in interfaces.items()
    }
    return {
        MACHINE_GENERATION: str(machine.metadata.generation),
        RUNTIME_GENERATION: str(runtime_generation),
        INTERFACE_MAPPING: json.dumps(mapping, sort_keys=True, separators=(",", ":")),
    }


def creation(
    machine: Machine,
    runtime_class: str,
    ignition: bytes,
    volumes: Sequence[iri.Volume],
    interfaces: Sequence[iri.NetworkInterface],
    annotations: Mapping[str, str],
) -> iri.Machine:
    """The message that creates the machine."""
    wanted = iri.Machine()
    wanted.metadata.labels.update(MACHINE.labels(machine.metadata))
    wanted.metadata.annotations.update(annotations)
    setattr(wanted.spec, "class", runtime_class)
    wanted.spec.power, wanted.spec.ignition_data = power(machine), ignition
    wanted.spec.volumes.extend(volumes)
    wanted.spec.network_interfaces.extend(interfaces)
    if machine.spec.HasField("guest_config"):
        wanted.spec.guest_config.hostname = machine.spec.guest_config.hostname
    return wanted


def power(machine: Machine) -> iri.Power.ValueType:
    """On unless the spec says Off."""
    return iri.POWER_OFF if machine.spec.power == "Off" else iri.POWER_ON


def interface(
    item: str, interface: NetworkInterface, network: Network, addresses: Sequence[str]
) -> iri.NetworkInterface:
    """One interface; `addresses` are literals in the order of the object's families."""
    attributes = dict(interface.spec.attributes)
    attributes[RAW_INTERFACE_LABELS] = _raw_labels("nic", interface)
    attributes[RAW_NETWORK_LABELS] = _raw_labels("network", network)
    return iri.NetworkInterface(
        name=item, network_id=network.spec.provider_id, ips=list(addresses), attributes=attributes
    )


def local_disk(item: MachineVolume) -> iri.Volume:
    """A disk on the hypervisor; size 0 lets the image decide."""
    source = item.local_disk if item.HasField("local_disk") else item.empty_disk
    size = Quantity.parse(source.size_limit).value if source.size_limit else 0
    disk = iri.LocalDisk(size_bytes=size)
    if item.HasField("local_disk") and item.local_disk.image:
        disk.image.image = item.local_disk.image
    return iri.Volume(name=item.name, device=item.device, local_disk=disk)


def remote_volume(item: MachineVolume, volume: Volume, access: Secret | None, encryption: Secret | None) -> iri.Volume:
    """A volume of a storage provider, with what is needed to reach it."""
    size = volume.status.resources.get("storage") or volume.spec.resources.get("storage") or "0"
    connection = iri.VolumeConnection(
        driver=volume.status.access.driver,
        handle=volume.status.access.handle,
        attributes=dict(volume.status.access.volume_attributes) | {RAW_VOLUME_LABELS: _raw_labels("volume", volume)},
        secret_data=dict(access.data) if access is not None else {},
        encryption_data=dict(encryption.data) if encryption is not None else {},
        effective_storage_bytes=Quantity.parse(size).value,
    )
    return iri.Volume(name=item.name, device=item.device, connection=connection)


def differs_only_in_size(wanted: iri.Volume, present: iri.Volume) -> bool:
    """Whether a volume can be updated in place: same connection, other effective size."""
    same = iri.Volume()
    same.CopyFrom(present)
    same.connection.effective_storage_bytes = wanted.connection.effective_storage_bytes
    return wanted.HasField("connection") and same == wanted


def held_uids(runtime: iri.Machine) -> set[str]:
    """The uids of the interface and volume objects that the runtime machine is to have."""
    held = set()
    for interface in runtime.spec.network_interfaces:
        held.add(_raw_uid("nic", interface.attributes.get(RAW_INTERFACE_LABELS, "")))
    for volume in runtime.spec.volumes:
        held.add(_raw_uid("volume", volume.connection.attributes.get(RAW_VOLUME_LABELS, "")))
    return held


def is_detaching(runtime: iri.Machine) -> bool:
    """Whether the runtime machine still has something that it is to lose."""
    volumes = {volume.name for volume in runtime.status.volumes}
    interfaces = {interface.name for interface in runtime.status.network_interfaces}
    return bool(
        volumes - {volume.name for volume in runtime.spec.volumes}
        or interfaces - {interface.name for interface in runtime.spec.network_interfaces}
    )


def _raw_uid(word: str, text: str) -> str:
    labels: dict[str, str] = json.loads(text or "{}")
    return labels.get(f"{MACHINE_PREFIX}{word}-uid", "")


def _raw_labels(word: str, obj: Volume | NetworkInterface | Network) -> str:
    metadata = metadata_of(obj)
    prefix = f"{MACHINE_PREFIX}{word}-"
    labels = {
        f"{prefix}uid": metadata.uid,
        f"{prefix}namespace": metadata.namespace,
        f"{prefix}name": metadata.name,
    }
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))
