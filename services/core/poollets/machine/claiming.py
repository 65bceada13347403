"""Claims the interfaces and volumes that a machine names, and gives back those that it no longer names."""

from __future__ import annotations

from collections.abc import Set

from protos.common.v1alpha1.common_pb2 import LocalUIDReference
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import is_deleting
from services.apimachinery.errors import NotFound
from services.core.model.claims import Claimer, Step, next_step
from services.core.poollets.machine import desired
from services.core.poollets.machine.gather import HOLDER, Inputs


async def adopt(client: Client, inputs: Inputs, machine: Machine) -> bool:
    """Claims what is named and free; whether anything was. Conflict when an object changed meanwhile."""
    adopted, holder = False, {"name": machine.metadata.name, "uid": machine.metadata.uid}
    for name in desired.interface_names(machine).values():
        interface = inputs.interfaces.get(name, machine.metadata.namespace)
        if interface is not None and _step(machine, interface, selected=True) is Step.ADOPT:
            adopted |= await _write(client, interface, {"machineRef": holder, "providerID": None})
    for name in desired.volume_names(machine).values():
        volume = inputs.volumes.get(name, machine.metadata.namespace)
        if volume is not None and _step(machine, volume, selected=True) is Step.ADOPT:
            adopted |= await _write(client, volume, {"claimRef": holder})
    return adopted


async def release(client: Client, inputs: Inputs, machine: Machine, held: Set[str]) -> None:
    """Gives back what is no longer named, but not what the runtime still holds (by uid): others could attach it."""
    selected = set(desired.interface_names(machine).values())
    for interface in inputs.interfaces.by_index(HOLDER, machine.metadata.uid):
        named = interface.metadata.name in selected or interface.metadata.uid in held
        if _step(machine, interface, selected=named) is Step.RELEASE:
            await _write(client, interface, {"machineRef": None, "providerID": None})
    selected = set(desired.volume_names(machine).values())
    for volume in inputs.volumes.by_index(HOLDER, machine.metadata.uid):
        named = volume.metadata.name in selected or volume.metadata.uid in held
        if _step(machine, volume, selected=named) is Step.RELEASE:
            await _write(client, volume, {"claimRef": None})


def _step(machine: Machine, obj: NetworkInterface | Volume, *, selected: bool) -> Step:
    claimer = Claimer(machine.metadata.uid, is_deleting(machine))
    unclaimable = isinstance(obj, Volume) and obj.spec.unclaimable
    return next_step(claimer, _claim(obj), selected=selected, deleting=is_deleting(obj), unclaimable=unclaimable)


def _claim(obj: NetworkInterface | Volume) -> LocalUIDReference:
    return obj.spec.claim_ref if isinstance(obj, Volume) else obj.spec.machine_ref


async def _write(client: Client, obj: NetworkInterface | Volume, spec: dict[str, object]) -> bool:
    metadata = obj.metadata
    patch = {"metadata": {"resourceVersion": metadata.resource_version}, "spec": spec}
    try:
        await client.patch(type(obj), metadata.name, patch, metadata.namespace)
    except NotFound:
        return False
    return True
