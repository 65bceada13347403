"""Claims the interfaces and volumes that a machine names, and gives back those that it no longer names."""

from __future__ import annotations

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import is_deleting
from services.apimachinery.errors import NotFound
from services.core.model.claims import Claimer, Step, next_step
from services.core.poollets.machine import desired
from services.core.poollets.machine.gather import Inputs


async def claim(client: Client, inputs: Inputs, machine: Machine) -> None:
    """One pass over both kinds; Conflict when an object changed meanwhile."""
    claimer = Claimer(machine.metadata.uid, is_deleting(machine))
    await _claim_interfaces(client, inputs, machine, claimer)
    await _claim_volumes(client, inputs, machine, claimer)


async def _claim_interfaces(client: Client, inputs: Inputs, machine: Machine, claimer: Claimer) -> None:
    selected = set(desired.interface_names(machine).values())
    for interface in inputs.interfaces.items():
        if interface.metadata.namespace != machine.metadata.namespace:
            continue
        reference = interface.spec.machine_ref if interface.spec.HasField("machine_ref") else None
        named = interface.metadata.name in selected
        step = next_step(claimer, reference, selected=named, deleting=is_deleting(interface))
        if step in (Step.ADOPT, Step.RELEASE):
            holder = _holder(machine) if step is Step.ADOPT else None
            await _write(client, interface, {"machineRef": holder, "providerID": None})


async def _claim_volumes(client: Client, inputs: Inputs, machine: Machine, claimer: Claimer) -> None:
    selected = set(desired.volume_names(machine).values())
    for volume in inputs.volumes.items():
        if volume.metadata.namespace != machine.metadata.namespace:
            continue
        step = next_step(
            claimer,
            volume.spec.claim_ref if volume.spec.HasField("claim_ref") else None,
            selected=volume.metadata.name in selected,
            deleting=is_deleting(volume),
            unclaimable=volume.spec.unclaimable,
        )
        if step in (Step.ADOPT, Step.RELEASE):
            await _write(client, volume, {"claimRef": _holder(machine) if step is Step.ADOPT else None})


def _holder(machine: Machine) -> dict[str, str]:
    return {"name": machine.metadata.name, "uid": machine.metadata.uid}


async def _write(client: Client, obj: NetworkInterface | Volume, spec: dict[str, object]) -> None:
    metadata = obj.metadata
    patch = {"metadata": {"resourceVersion": metadata.resource_version}, "spec": spec}
    try:
        await client.patch(type(obj), metadata.name, patch, metadata.namespace)
    except NotFound:
        pass
