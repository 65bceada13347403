"""What a machine's status says, from what was observed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.model.machine import Record

READY: Final = "Ready"

# libvirt's virDomainState numbers.
RUNNING: Final = 1
SHUTDOWN: Final = 4


def machine_state(record: Record, domain_state: int | None) -> pb.MachineState.ValueType:
    """The state of a machine whose domain is in a libvirt state, or has none."""
    if record.deleting:
        return pb.MACHINE_TERMINATING if domain_state is not None else pb.MACHINE_TERMINATED
    if domain_state == RUNNING:
        return pb.MACHINE_RUNNING
    if domain_state == SHUTDOWN:
        return pb.MACHINE_TERMINATING
    if domain_state is None and record.wanted_off:
        return pb.MACHINE_STOPPED
    return pb.MACHINE_PENDING


def observe(
    record: Record,
    domain_state: int | None,
    disks: Collection[str],
    nics: Collection[str],
    handles: Mapping[tuple[str, str], str],
) -> None:
    """Writes the observed part of the status: volumes and interfaces in the order of the spec, then leaving ones.

    `disks` and `nics` are what the domain has; `handles` maps ("volume" or "nic", name) to a handle that became known
    now: others keep the one they had.
    """
    status = record.machine.status
    known = {("volume", each.name): each.handle for each in status.volumes}
    known |= {("nic", each.name): each.handle for each in status.network_interfaces}
    known |= handles
    status.state = machine_state(record, domain_state)
    del status.volumes[:]
    for volume in [*record.machine.spec.volumes, *record.leaving_volumes]:
        status.volumes.add(
            name=volume.name,
            handle=known.get(("volume", volume.name), ""),
            state=pb.VOLUME_ATTACHED if volume.name in disks else pb.VOLUME_PENDING,
        )
    del status.network_interfaces[:]
    for nic in [*record.machine.spec.network_interfaces, *record.leaving_nics]:
        status.network_interfaces.add(
            name=nic.name,
            handle=known.get(("nic", nic.name), ""),
            state=pb.NETWORK_INTERFACE_ATTACHED if nic.name in nics else pb.NETWORK_INTERFACE_PENDING,
        )


def set_ready(record: Record, *, ready: bool, reason: str, message: str, now: int) -> None:
    """The condition Ready: whether all that was asked is done, and if not, what it waits for. `now` in nanoseconds."""
    conditions = record.machine.status.machine_conditions
    for condition in conditions:
        if condition.type == READY:
            break
    else:
        condition = conditions.add(type=READY)
    status = "True" if ready else "False"
    if condition.status != status:
        condition.status, condition.last_transition_time = status, now
    condition.reason, condition.message = reason, message
