"""Objects that controllers make from templates of their owner, and that live and die with it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from google.protobuf.message import Message

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.ipam.v1alpha1.prefix_pb2 import Prefix, PrefixTemplateSpec
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.networking.v1alpha1.load_balancer_pb2 import LoadBalancer
from protos.networking.v1alpha1.network_interface_pb2 import IPSource, NetworkInterface
from protos.networking.v1alpha1.virtual_ip_pb2 import VirtualIP
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.objects import M, is_deleting, metadata_of
from services.apimachinery.runtime.owners import is_controlled_by, set_controller_reference
from services.core.model import names

RETAIN = "Retain"


@dataclass(frozen=True)
class Difference(Generic[M]):
    """What to do about an owner's children; `foreign` are names that objects of somebody else have."""

    create: list[M]
    delete: list[M]
    foreign: list[str]


def difference(owner: Message, wanted: Sequence[M], present: Iterable[M]) -> Difference[M]:
    """Compares by name; `present` are the objects that the owner controls or whose names it wants."""
    missing = {metadata_of(child).name: child for child in wanted}
    delete, foreign = [], []
    for child in present:
        name = metadata_of(child).name
        if is_managed(child, owner):
            if missing.pop(name, None) is None and not is_deleting(child):
                delete.append(child)
        elif missing.pop(name, None) is not None:
            foreign.append(name)
    return Difference(list(missing.values()), delete, foreign)


def is_managed(child: Message, owner: Message) -> bool:
    """Whether a controller made the object for this very owner; a VirtualIP may be tied by its target alone."""
    if metadata_of(child).annotations.get(names.EPHEMERAL_MANAGED_BY) != names.EPHEMERAL_MANAGER:
        return False
    retained = isinstance(child, VirtualIP) and child.spec.target_ref.uid == metadata_of(owner).uid
    return retained or is_controlled_by(child, owner)


def interfaces_of(machine: Machine) -> list[NetworkInterface]:
    """The interfaces to be made for a machine; they are claimed by it from the start."""
    made = []
    for item in machine.spec.network_interfaces:
        if not item.HasField("ephemeral"):
            continue
        template = item.ephemeral.network_interface_template
        name = names.machine_child(machine.metadata.name, item.name)
        child = NetworkInterface(metadata=_metadata(machine, name, template.metadata), spec=template.spec)
        child.spec.machine_ref.name, child.spec.machine_ref.uid = machine.metadata.name, machine.metadata.uid
        set_controller_reference(machine, child)
        made.append(child)
    return made


def volumes_of(machine: Machine, architecture: str) -> list[Volume]:
    """The volumes to be made for a machine; the machine's poollet claims them.

    They follow the machine to its region and zone, and its class's architecture chooses their image, unless the
    template says otherwise.
    """
    made = []
    for item in machine.spec.volumes:
        if not item.HasField("ephemeral"):
            continue
        template = item.ephemeral.volume_template
        name = names.machine_child(machine.metadata.name, item.name)
        child = Volume(metadata=_metadata(machine, name, template.metadata), spec=template.spec)
        if child.spec.HasField("volume_class_ref"):
            _follow_topology(child, machine.spec.machine_pool_selector)
        image = child.spec.data_source.os_image if child.spec.data_source.HasField("os_image") else None
        if image is not None and not image.architecture and architecture:
            image.architecture = architecture
        set_controller_reference(machine, child)
        made.append(child)
    return made


def needs_architecture(machine: Machine) -> bool:
    """Whether some volume to be made takes its image's architecture from the machine's class."""
    sources = (item.ephemeral.volume_template.spec.data_source for item in machine.spec.volumes)
    return any(source.HasField("os_image") and not source.os_image.architecture for source in sources)


def interface_prefixes_of(interface: NetworkInterface) -> list[Prefix]:
    """The prefixes to be made for the addresses and the routed prefixes of an interface."""
    made = _address_prefixes(interface, interface.spec.ips)
    for index, source in enumerate(interface.spec.prefixes):
        if source.HasField("ephemeral"):
            name = names.routed_prefix(interface.metadata.name, index)
            made.append(_prefix(interface, name, source.ephemeral.prefix_template))
    return made


def load_balancer_prefixes_of(balancer: LoadBalancer) -> list[Prefix]:
    """The prefixes to be made for the addresses of a load balancer."""
    return _address_prefixes(balancer, balancer.spec.ips)


def interface_prefix_names(interface: NetworkInterface) -> list[str]:
    """The names of the prefixes to be made for an interface."""
    sources = enumerate(interface.spec.prefixes)
    routed = [names.routed_prefix(interface.metadata.name, at) for at, one in sources if one.HasField("ephemeral")]
    return address_prefix_names(interface.metadata.name, interface.spec.ips) + routed


def address_prefix_names(owner: str, sources: Iterable[IPSource]) -> list[str]:
    """The names of the prefixes to be made for addresses."""
    return [names.ip_prefix(owner, at) for at, source in enumerate(sources) if source.HasField("ephemeral")]


def virtual_ips_of(interface: NetworkInterface) -> list[VirtualIP]:
    """The public address to be made for an interface, if any; one to be retained has no owner."""
    if not interface.spec.virtual_ip.HasField("ephemeral"):
        return []
    template = interface.spec.virtual_ip.ephemeral.virtual_ip_template
    child = VirtualIP(metadata=_metadata(interface, interface.metadata.name, template.metadata))
    child.spec.type, child.spec.ip_family = template.spec.type, template.spec.ip_family
    child.spec.target_ref.name, child.spec.target_ref.uid = interface.metadata.name, interface.metadata.uid
    if template.spec.reclaim_policy != RETAIN:
        set_controller_reference(interface, child)
    return [child]


def _address_prefixes(owner: Message, sources: Iterable[IPSource]) -> list[Prefix]:
    return [
        _prefix(owner, names.ip_prefix(metadata_of(owner).name, index), source.ephemeral.prefix_template)
        for index, source in enumerate(sources)
        if source.HasField("ephemeral")
    ]


def _prefix(owner: Message, name: str, template: PrefixTemplateSpec) -> Prefix:
    child = Prefix(metadata=_metadata(owner, name, template.metadata), spec=template.spec)
    set_controller_reference(owner, child)
    return child


def _metadata(owner: Message, name: str, template: ObjectMeta) -> ObjectMeta:
    made = ObjectMeta(namespace=metadata_of(owner).namespace, name=name)
    made.labels.update(template.labels)
    made.annotations.update({**template.annotations, names.EPHEMERAL_MANAGED_BY: names.EPHEMERAL_MANAGER})
    return made


def _follow_topology(volume: Volume, selector: Mapping[str, str]) -> None:
    for key in names.TOPOLOGY_LABELS:
        if key in selector and key not in volume.spec.volume_pool_selector:
            volume.spec.volume_pool_selector[key] = selector[key]
