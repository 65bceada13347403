"""What the runtime reports, in the API's terms. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from protos.compute.v1alpha1.machine_pb2 import Machine, MachineStatus
from protos.iri.machine.v1alpha1 import machine_pb2 as iri
from services.apimachinery.runtime.conditions import FALSE, TRUE, remove_condition, set_condition
from services.apimachinery.runtime.reconciler import Waiting
from services.core.poollets.keys import INTERFACE_MAPPING, MACHINE_GENERATION, RUNTIME_GENERATION

STATES: Final = {
    iri.MACHINE_PENDING: "Pending",
    iri.MACHINE_RUNNING: "Running",
    iri.MACHINE_SUSPENDED: "Shutdown",
    iri.MACHINE_TERMINATED: "Terminated",
    iri.MACHINE_TERMINATING: "Terminating",
    iri.MACHINE_STOPPED: "Shutdown",
}
READY: Final = "Ready"
VOLUMES_READY: Final = "VolumesReady"
INTERFACES_READY: Final = "NetworkInterfacesReady"
READY_REASONS: Final = {"Pending": "Pending", "Terminating": "Terminating", "Terminated": "Terminating"}


def is_observed(runtime: iri.Machine) -> bool:
    """Whether the runtime's status already speaks of what we asked for last."""
    required = runtime.metadata.annotations.get(RUNTIME_GENERATION, "0")
    return runtime.status.observed_generation >= int(required)


def is_settled(machine: Machine, runtime: iri.Machine) -> bool:
    """Whether no change of the runtime is expected by itself."""
    wanted = "Shutdown" if machine.spec.power == "Off" else "Running"
    attached = all(volume.state == iri.VOLUME_ATTACHED for volume in runtime.status.volumes) and all(
        interface.state == iri.NETWORK_INTERFACE_ATTACHED for interface in runtime.status.network_interfaces
    )
    complete = len(runtime.status.volumes) == len(runtime.spec.volumes) and len(
        runtime.status.network_interfaces
    ) == len(runtime.spec.network_interfaces)
    return STATES.get(runtime.status.state) == wanted and attached and complete and is_observed(runtime)


def mapped_interfaces(runtime: iri.Machine) -> dict[str, dict[str, str]]:
    """Item name → {name, uid} of the interface object, as noted at the runtime machine."""
    mapping: dict[str, dict[str, str]] = json.loads(runtime.metadata.annotations.get(INTERFACE_MAPPING) or "{}")
    return mapping


def status_of(
    machine: Machine,
    runtime: iri.Machine,
    runtime_name: str,
    interfaces: Mapping[str, str],
    volumes: Mapping[str, str],
    waits: Sequence[Waiting],
    now: int,
) -> MachineStatus:
    """The status to write; `interfaces` and `volumes` map item names to object names, `now` is Unix seconds.

    `waits` are about items that the runtime could not be asked for yet.
    """
    status = MachineStatus()
    status.CopyFrom(machine.status)
    status.machine_id = f"{runtime_name}://{runtime.metadata.id}"
    status.observed_generation = int(runtime.metadata.annotations.get(MACHINE_GENERATION) or 0)
    status.state = STATES.get(runtime.status.state, "Pending")
    _items(
        status.volumes,
        [volume.name for volume in machine.spec.volumes],
        {
            item.name: (item.handle, "Attached" if item.state == iri.VOLUME_ATTACHED else "Pending")
            for item in runtime.status.volumes
        },
        volumes,
        "volume_ref",
        now,
    )
    _items(
        status.network_interfaces,
        [interface.name for interface in machine.spec.network_interfaces],
        {
            item.name: (item.handle, "Attached" if item.state == iri.NETWORK_INTERFACE_ATTACHED else "Pending")
            for item in runtime.status.network_interfaces
        },
        interfaces,
        "network_interface_ref",
        now,
    )
    _set_conditions(status, {wait.type: wait for wait in reversed(waits)}, now)
    return status


def waiting_status(machine: Machine, waits: Sequence[Waiting], now: int) -> MachineStatus:
    """The status of a machine that the runtime does not have yet; at least one wait. Ready gives the first reason."""
    status = MachineStatus()
    status.CopyFrom(machine.status)
    first = {wait.type: wait for wait in reversed(waits)}
    for kind in (VOLUMES_READY, INTERFACES_READY):
        if kind not in first:
            remove_condition(status.conditions, kind)
    for kind, wait in ({READY: waits[0]} | first).items():
        set_condition(status.conditions, kind, wait.status, wait.reason, wait.message, now=now)
    return status


def _items(
    target: Any,
    wanted: list[str],
    reported: Mapping[str, tuple[str, str]],
    objects: Mapping[str, str],
    reference: str,
    now: int,
) -> None:
    """Wanted items in their order, then those that the runtime still has though nobody wants them any more."""
    before = {item.name: (item.state, item.last_state_transition_time.seconds) for item in target}
    del target[:]
    for name in [*wanted, *(name for name in reported if name not in wanted)]:
        handle, state = reported.get(name, ("", "Pending"))
        item = target.add(name=name, handle=handle, state=state)
        if name in objects:
            getattr(item, reference).name = objects[name]
        old_state, since = before.get(name, ("", 0))
        item.last_state_transition_time.seconds = since if state == old_state and since else now


def _set_conditions(status: MachineStatus, waits: Mapping[str, Waiting], now: int) -> None:
    for kind, word, items in (
        (VOLUMES_READY, "Volume", status.volumes),
        (INTERFACES_READY, "NetworkInterface", status.network_interfaces),
    ):
        pending = [item.name for item in items if item.state != "Attached"]
        if kind in waits:
            set_condition(status.conditions, kind, FALSE, waits[kind].reason, waits[kind].message, now=now)
        elif pending:
            message = f"{word} {pending[0]} is not attached yet"
            set_condition(status.conditions, kind, FALSE, f"{word}NotReady", message, now=now)
        else:
            set_condition(status.conditions, kind, TRUE, kind, now=now)
    if status.state == "Running":
        set_condition(status.conditions, READY, TRUE, "Running", "the machine runs", now=now)
    else:
        reason = READY_REASONS.get(status.state, "NotReady")
        message = f"the runtime reports the machine as {status.state}"
        set_condition(status.conditions, READY, FALSE, reason, message, now=now)
