"""Machine of the API → machine of the runtime, and its state back."""

from __future__ import annotations

import time
from typing import Any, Final

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.iri.machine.v1alpha1 import machine_pb2 as iri
from services.apimachinery.client.objects import Key, is_deleting
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.conditions import set_condition
from services.apimachinery.runtime.finalizers import ensure_finalizer, has_finalizer, remove_finalizer
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler, Waiting
from services.common.logs import get_logger
from services.core.poollets.feed import Feed
from services.core.poollets.keys import (
    MACHINE_FINALIZER,
    MACHINE_NAME,
    MACHINE_NAMESPACE,
    MACHINE_UID,
    MANAGED_BY,
    RUNTIME_GENERATION,
)
from services.core.poollets.machine import desired
from services.core.poollets.machine.claiming import claim
from services.core.poollets.machine.gather import Inputs, Wanted
from services.core.poollets.machine.status import is_settled, mapped_interfaces, status_of
from services.core.poollets.runtime import gone_is_fine

log = get_logger(__name__)

WORKERS: Final = 8


class MachineReconciler(Reconciler):
    """One Machine of the pool at a time."""

    def __init__(
        self, manager: Manager, machines: Informer[Machine], inputs: Inputs, runtime: Any, runtime_name: str
    ) -> None:
        super().__init__("machinepoollet-machine", workers=WORKERS)
        self._client, self._machines, self._inputs = manager.client, machines, inputs
        self._runtime, self._runtime_name = runtime, runtime_name
        self._recorder = manager.recorder("machinepoollet")
        self.feed = Feed(self._list_all, self._runtime_changed)
        self.watch(machines)
        self._machines.index("interface", lambda machine: _scoped(machine, desired.interface_names(machine).values()))
        self._machines.index("volume", lambda machine: _scoped(machine, desired.volume_names(machine).values()))
        self.watch(inputs.interfaces, lambda obj: self._users("interface", obj))
        self.watch(inputs.volumes, lambda obj: self._users("volume", obj))
        self.watch(inputs.networks, self._unfinished)
        self.watch(inputs.prefixes, self._unfinished)
        self.watch(inputs.secrets, self._unfinished)
        self.watch(inputs.classes, self._unfinished)
        inputs.offers.on_change(self._retry_unfinished)

    async def reconcile(self, key: Key) -> float | None:
        """Creates, updates or deletes at the runtime, and reports."""
        machine = self._machines.get(key.name, key.namespace)
        if machine is None:
            await self._delete_runtime({MACHINE_NAMESPACE: key.namespace, MACHINE_NAME: key.name})
            return None
        if MANAGED_BY in machine.metadata.annotations:
            return None
        if is_deleting(machine):
            return await self._release(machine)
        machine = await ensure_finalizer(self._client, machine, MACHINE_FINALIZER)
        await claim(self._client, self._inputs, machine)
        runtime = await self._ensure_single(machine)
        wanted = self._inputs.wanted(machine)
        if runtime is None:
            runtime = await self._create(machine, wanted)
        else:
            runtime = await self._update(machine, runtime, wanted)
        await self._report(machine, runtime)
        await self._report_handles(machine, runtime)
        if not is_settled(machine, runtime):
            self.feed.hurry()
        if wanted.waiting is not None:
            raise wanted.waiting
        return None

    async def on_waiting(self, key: Key, wait: Waiting) -> None:
        """Says in the machine's conditions, and once as an event, what it waits for."""
        machine = self._machines.get(key.name, key.namespace)
        if machine is None:
            return
        reported = Machine()
        reported.CopyFrom(machine)
        if set_condition(reported.status.conditions, wait.type, wait.status, wait.reason, wait.message):
            self._recorder.event(machine, "Normal", wait.reason, wait.message, action="Waiting")
            await self._client.update_status(reported)

    def _users(self, index: str, obj: Any) -> list[Key]:
        found = self._machines.by_index(index, f"{obj.metadata.namespace}/{obj.metadata.name}")
        return [Key(machine.metadata.namespace, machine.metadata.name) for machine in found]

    def _unfinished(self, obj: Any) -> list[Key]:
        return [
            Key(machine.metadata.namespace, machine.metadata.name)
            for machine in self._machines.items()
            if machine.status.state != "Running" and obj.metadata.namespace in ("", machine.metadata.namespace)
        ]

    def _retry_unfinished(self) -> None:
        for machine in self._machines.items():
            if machine.status.state != "Running":
                self.queue.add(Key(machine.metadata.namespace, machine.metadata.name))

    def _runtime_changed(self, runtime: iri.Machine) -> None:
        labels = runtime.metadata.labels
        if MACHINE_NAMESPACE in labels and MACHINE_NAME in labels:
            self.queue.add(Key(labels[MACHINE_NAMESPACE], labels[MACHINE_NAME]))

    async def _list_all(self) -> list[iri.Machine]:
        return await self._list({})

    async def _list(self, labels: dict[str, str]) -> list[iri.Machine]:
        request = iri.ListMachinesRequest(filter=iri.MachineFilter(label_selector=labels))
        return list((await self._runtime.ListMachines(request)).machines)

    async def _ensure_single(self, machine: Machine) -> iri.Machine | None:
        """Our machine at the runtime. Of several (a lost answer to Create) the oldest stays."""
        found = await self._list({MACHINE_UID: machine.metadata.uid})
        found.sort(key=lambda item: (item.metadata.created_at, item.metadata.id))
        for surplus in found[1:]:
            message = f"the runtime had {len(found)} machines for this one; {surplus.metadata.id} is deleted"
            self._recorder.event(machine, "Warning", "DuplicateRuntimeMachine", message, action="Deleting")
            await gone_is_fine(self._runtime.DeleteMachine(iri.DeleteMachineRequest(machine_id=surplus.metadata.id)))
        return found[0] if found else None

    async def _create(self, machine: Machine, wanted: Wanted) -> iri.Machine:
        runtime_class = self._inputs.runtime_class(machine)
        ignition = self._inputs.ignition(machine)
        if wanted.waiting is not None:
            raise wanted.waiting
        spec = iri.MachineSpec(
            power=desired.power(machine),
            ignition_data=ignition,
            volumes=wanted.volumes,
            network_interfaces=wanted.interfaces,
        )
        setattr(spec, "class", runtime_class)
        if machine.spec.HasField("guest_config"):
            spec.guest_config.hostname = machine.spec.guest_config.hostname
        request = iri.CreateMachineRequest(machine=iri.Machine(spec=spec))
        request.machine.metadata.labels.update(desired.identity_labels(machine))
        request.machine.metadata.annotations.update(
            desired.machine_annotations(machine, 0, self._inputs.claimed_interfaces(machine))
        )
        answer = await self._runtime.CreateMachine(request)
        created: iri.Machine = answer.machine
        log.info("machine created", runtime_id=created.metadata.id)
        return created

    async def _update(self, machine: Machine, runtime: iri.Machine, wanted: Wanted) -> iri.Machine:
        await self._update_interfaces(machine, runtime, wanted)
        await self._update_volumes(machine, runtime, wanted)
        identity = runtime.metadata.id
        if runtime.spec.power != desired.power(machine):
            request = iri.UpdateMachinePowerRequest(machine_id=identity, power=desired.power(machine))
            await self._runtime.UpdateMachinePower(request)
        required = max(runtime.metadata.generation, int(runtime.metadata.annotations.get(RUNTIME_GENERATION, "0")))
        present = dict(runtime.metadata.annotations)
        interfaces = self._inputs.claimed_interfaces(machine)
        if present | desired.machine_annotations(machine, required, interfaces) != present:
            annotations = present | desired.machine_annotations(machine, required, interfaces)
            await self._runtime.UpdateMachineAnnotations(
                iri.UpdateMachineAnnotationsRequest(machine_id=identity, annotations=annotations)
            )
        request_again = iri.ListMachinesRequest(filter=iri.MachineFilter(id=identity))
        again = (await self._runtime.ListMachines(request_again)).machines
        return again[0] if again else runtime

    async def _update_interfaces(self, machine: Machine, runtime: iri.Machine, wanted: Wanted) -> None:
        present = {interface.name: interface for interface in runtime.spec.network_interfaces}
        ready = {interface.name: interface for interface in wanted.interfaces}
        named = {item.name for item in machine.spec.network_interfaces}
        for name, interface in present.items():
            # An interface that is only not ready at the moment stays attached.
            if name not in named or (name in ready and ready[name] != interface):
                request = iri.DetachNetworkInterfaceRequest(machine_id=runtime.metadata.id, name=name)
                await gone_is_fine(self._runtime.DetachNetworkInterface(request))
        for name, interface in ready.items():
            if present.get(name) != interface:
                await self._runtime.AttachNetworkInterface(
                    iri.AttachNetworkInterfaceRequest(machine_id=runtime.metadata.id, network_interface=interface)
                )

    async def _update_volumes(self, machine: Machine, runtime: iri.Machine, wanted: Wanted) -> None:
        present = {volume.name: volume for volume in runtime.spec.volumes}
        ready = {volume.name: volume for volume in wanted.volumes}
        named = {item.name for item in machine.spec.volumes}
        identity = runtime.metadata.id
        for name, volume in present.items():
            if name in ready and volume != ready[name] and desired.differs_only_in_size(ready[name], volume):
                await self._runtime.UpdateVolume(iri.UpdateVolumeRequest(machine_id=identity, volume=ready[name]))
                present[name] = ready[name]
            elif name not in named or (name in ready and volume != ready[name]):
                await gone_is_fine(self._runtime.DetachVolume(iri.DetachVolumeRequest(machine_id=identity, name=name)))
        for name, volume in ready.items():
            if present.get(name) != volume:
                await self._runtime.AttachVolume(iri.AttachVolumeRequest(machine_id=identity, volume=volume))

    async def _report(self, machine: Machine, runtime: iri.Machine) -> None:
        required = int(runtime.metadata.annotations.get(RUNTIME_GENERATION, "0"))
        if runtime.status.observed_generation < required:
            return  # its status still speaks of an earlier wish
        interfaces, volumes = desired.interface_names(machine), desired.volume_names(machine)
        status = status_of(machine, runtime, self._runtime_name, interfaces, volumes, int(time.time()))
        if status != machine.status:
            if status.state != machine.status.state:
                log.info("machine state changed", before=machine.status.state, now=status.state)
            reported = Machine(metadata=machine.metadata, spec=machine.spec, status=status)
            await self._client.update_status(reported)

    async def _report_handles(self, machine: Machine, runtime: iri.Machine) -> None:
        """Tells each interface object where its interface is: the network plugin finds it by that."""
        handles = {interface.name: interface.handle for interface in runtime.status.network_interfaces}
        mapping = mapped_interfaces(runtime)
        for item, interface in self._inputs.claimed_interfaces(machine).items():
            if mapping.get(item, {}).get("uid") != interface.metadata.uid:
                continue
            handle = handles.get(item, "")
            if interface.spec.provider_id != handle:
                metadata, patch = interface.metadata, {"spec": {"providerID": handle or None}}
                try:
                    await self._client.patch(type(interface), metadata.name, patch, metadata.namespace)
                except NotFound:
                    pass

    async def _release(self, machine: Machine) -> float | None:
        if not has_finalizer(machine, MACHINE_FINALIZER):
            return None
        if await self._delete_runtime({MACHINE_UID: machine.metadata.uid}):
            self.feed.hurry()
            return 1.0  # in case the feed, which wakes us earlier, fails
        await remove_finalizer(self._client, machine, MACHINE_FINALIZER)
        return None

    async def _delete_runtime(self, labels: dict[str, str]) -> int:
        """Asks for the deletion of what has these labels; how many there still are."""
        found = await self._list(labels)
        for runtime in found:
            if not runtime.metadata.deleted_at:
                await gone_is_fine(
                    self._runtime.DeleteMachine(iri.DeleteMachineRequest(machine_id=runtime.metadata.id))
                )
        return len(found)


def _scoped(machine: Machine, names: Any) -> list[str]:
    return [f"{machine.metadata.namespace}/{name}" for name in names]
