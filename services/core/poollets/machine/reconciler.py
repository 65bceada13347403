"""Machine of the API → machine of the runtime, and its state back."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, ClassVar

import grpc

from protos.compute.v1alpha1.machine_pb2 import Machine, MachineStatus
from protos.iri.machine.v1alpha1 import machine_pb2 as iri
from services.apimachinery.client.objects import Key
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Waiting
from services.common.logs import get_logger
from services.core.poollets.keys import MACHINE, RUNTIME_GENERATION, Marks
from services.core.poollets.machine import claiming, desired
from services.core.poollets.machine.gather import Inputs, Wanted
from services.core.poollets.machine.status import (
    is_observed,
    is_settled,
    mapped_interfaces,
    status_of,
    waiting_status,
)
from services.core.poollets.twin import TwinReconciler, gone_is_fine, keys_of

log = get_logger(__name__)


class MachineReconciler(TwinReconciler[Machine, iri.Machine]):
    """One Machine of the pool at a time."""

    marks: ClassVar[Marks] = MACHINE

    def __init__(
        self, manager: Manager, machines: Informer[Machine], inputs: Inputs, runtime: Any, runtime_name: str
    ) -> None:
        super().__init__("machinepoollet", manager, machines)
        self._inputs, self._runtime, self._runtime_name = inputs, runtime, runtime_name
        machines.index("interface", lambda machine: _scoped(machine, desired.interface_names(machine).values()))
        machines.index("volume", lambda machine: _scoped(machine, desired.volume_names(machine).values()))
        self.watch(inputs.interfaces, lambda obj: self._users("interface", obj))
        self.watch(inputs.volumes, lambda obj: self._users("volume", obj))
        self.watch(inputs.networks, lambda obj: self.waiting(obj.metadata.namespace))
        self.watch(inputs.prefixes, lambda obj: self.waiting(obj.metadata.namespace))
        self.watch(inputs.secrets, lambda obj: self.waiting(obj.metadata.namespace))
        self.watch(inputs.classes, lambda obj: self.waiting())
        inputs.offers.on_change(self.wake_waiting)

    async def listed(self, labels: dict[str, str]) -> Sequence[iri.Machine]:
        """Machines of the runtime."""
        request = iri.ListMachinesRequest(filter=iri.MachineFilter(label_selector=labels))
        return list((await self._runtime.ListMachines(request)).machines)

    def delete(self, identity: str) -> Awaitable[Any]:
        """Deletes a machine of the runtime."""
        call: Awaitable[Any] = self._runtime.DeleteMachine(iri.DeleteMachineRequest(machine_id=identity))
        return call

    def has_twin(self, obj: Machine) -> bool:
        """By the id in the status."""
        return bool(obj.status.machine_id)

    async def realise(self, obj: Machine) -> bool:
        """Claims, creates or updates, reports, gives back."""
        if await claiming.adopt(self.client, self._inputs, obj):
            return False  # the adopted object's change wakes us
        wanted = self._inputs.wanted(obj)
        try:
            present = await self.twin(obj)
            runtime = present or await self._create(obj, wanted)
        except Waiting as wait:
            await self.report_waits(obj, [wait, *wanted.waits])
            return False
        if runtime is None:
            await self.report_waits(obj, wanted.waits)
            return False
        if present is not None:
            try:
                runtime = await self._update(obj, present, wanted)
            except grpc.aio.AioRpcError:
                await self._report(obj, present, wanted.waits)  # what it is now is true all the same
                raise
        await self._report_handles(obj, runtime)
        await self._release_dropped(obj, runtime)
        await self._report(obj, runtime, wanted.waits)
        return not wanted.waits

    async def report_waits(self, obj: Machine, waits: Sequence[Waiting]) -> None:
        """Into the conditions."""
        self.announce(obj, waits)
        await self._write(obj, waiting_status(obj, waits, int(time.time())))

    async def report_leaving(self, obj: Machine, twin: iri.Machine) -> None:
        """The state on the way down."""
        await self._report(obj, twin, [])

    def _users(self, index: str, obj: Any) -> Iterable[Key]:
        return keys_of(self.objects.by_index(index, f"{obj.metadata.namespace}/{obj.metadata.name}"))

    async def _create(self, machine: Machine, wanted: Wanted) -> iri.Machine | None:
        """None while something that is wanted is not ready."""
        runtime_class, ignition = self._inputs.runtime_class(machine), self._inputs.ignition(machine)
        if wanted.waits:
            return None
        annotations = desired.machine_annotations(machine, 0, self._inputs.claimed_interfaces(machine))
        asked = desired.creation(machine, runtime_class, ignition, wanted.volumes, wanted.interfaces, annotations)
        created: iri.Machine = (await self._runtime.CreateMachine(iri.CreateMachineRequest(machine=asked))).machine
        log.info("machine created", runtime_id=created.metadata.id)
        return created

    async def _update(self, machine: Machine, runtime: iri.Machine, wanted: Wanted) -> iri.Machine:
        """The machine as the runtime lists it after all changes."""
        changed = await self._update_interfaces(machine, runtime, wanted)
        changed |= await self._update_volumes(machine, runtime, wanted)
        changed |= await self._update_power(machine, runtime)
        changed |= await self._update_annotations(machine, runtime)
        if not changed:
            return runtime
        request = iri.ListMachinesRequest(filter=iri.MachineFilter(id=runtime.metadata.id))
        again: Sequence[iri.Machine] = (await self._runtime.ListMachines(request)).machines
        return again[0] if again else runtime

    async def _update_interfaces(self, machine: Machine, runtime: iri.Machine, wanted: Wanted) -> bool:
        present = {interface.name: interface for interface in runtime.spec.network_interfaces}
        ready = {interface.name: interface for interface in wanted.interfaces}
        named = {item.name for item in machine.spec.network_interfaces}
        changed = False
        for name, interface in present.items():
            # An interface that is only not ready at the moment stays attached.
            if name not in named or (name in ready and ready[name] != interface):
                request = iri.DetachNetworkInterfaceRequest(machine_id=runtime.metadata.id, name=name)
                await gone_is_fine(self._runtime.DetachNetworkInterface(request))
                changed = True
        for name, interface in ready.items():
            if present.get(name) != interface:
                await self._runtime.AttachNetworkInterface(
                    iri.AttachNetworkInterfaceRequest(machine_id=runtime.metadata.id, network_interface=interface)
                )
                changed = True
        return changed

    async def _update_volumes(self, machine: Machine, runtime: iri.Machine, wanted: Wanted) -> bool:
        present = {volume.name: volume for volume in runtime.spec.volumes}
        ready = {volume.name: volume for volume in wanted.volumes}
        named = {item.name for item in machine.spec.volumes}
        identity, changed = runtime.metadata.id, False
        for name, volume in list(present.items()):
            if name in ready and volume != ready[name] and desired.differs_only_in_size(ready[name], volume):
                await self._runtime.UpdateVolume(iri.UpdateVolumeRequest(machine_id=identity, volume=ready[name]))
                present[name], changed = ready[name], True
            elif name not in named or (name in ready and volume != ready[name]):
                await gone_is_fine(self._runtime.DetachVolume(iri.DetachVolumeRequest(machine_id=identity, name=name)))
                changed = True
        for name, volume in ready.items():
            if present.get(name) != volume:
                await self._runtime.AttachVolume(iri.AttachVolumeRequest(machine_id=identity, volume=volume))
                changed = True
        return changed

    async def _update_power(self, machine: Machine, runtime: iri.Machine) -> bool:
        power = desired.power(machine)
        if runtime.spec.power == power:
            return False
        request = iri.UpdateMachinePowerRequest(machine_id=runtime.metadata.id, power=power)
        await self._runtime.UpdateMachinePower(request)
        return True

    async def _update_annotations(self, machine: Machine, runtime: iri.Machine) -> bool:
        present = dict(runtime.metadata.annotations)
        required = max(runtime.metadata.generation, int(present.get(RUNTIME_GENERATION, "0")))
        interfaces = self._inputs.claimed_interfaces(machine)
        annotations = present | desired.machine_annotations(machine, required, interfaces)
        if annotations == present:
            return False
        await self._runtime.UpdateMachineAnnotations(
            iri.UpdateMachineAnnotationsRequest(machine_id=runtime.metadata.id, annotations=annotations)
        )
        return True

    async def _report(self, machine: Machine, runtime: iri.Machine, waits: Sequence[Waiting]) -> None:
        if not is_settled(machine, runtime):
            self.feed.hurry()
        if not is_observed(runtime):
            return  # its status still speaks of an earlier wish
        self.announce(machine, waits)
        interfaces, volumes = desired.interface_names(machine), desired.volume_names(machine)
        now = int(time.time())
        status = status_of(machine, runtime, self._runtime_name, interfaces, volumes, waits, now)
        if status.state != machine.status.state:
            log.info("machine state changed", before=machine.status.state, now=status.state)
        await self._write(machine, status)

    async def _write(self, machine: Machine, status: MachineStatus) -> None:
        if status != machine.status:
            await self.client.update_status(Machine(metadata=machine.metadata, spec=machine.spec, status=status))

    async def _report_handles(self, machine: Machine, runtime: iri.Machine) -> None:
        """Tells each interface object where its interface is: the network plugin finds it by that."""
        handles = {interface.name: interface.handle for interface in runtime.status.network_interfaces}
        mapping = mapped_interfaces(runtime)
        for item, interface in self._inputs.claimed_interfaces(machine).items():
            if mapping.get(item, {}).get("uid") != interface.metadata.uid:
                continue
            handle = handles.get(item, "")
            if interface.spec.provider_id != handle:
                metadata = interface.metadata
                # Conditional: by now another machine may have claimed it.
                patch = {
                    "metadata": {"resourceVersion": metadata.resource_version},
                    "spec": {"providerID": handle or None},
                }
                try:
                    await self.client.patch(type(interface), metadata.name, patch, metadata.namespace)
                except NotFound:
                    pass

    async def _release_dropped(self, machine: Machine, runtime: iri.Machine) -> None:
        if desired.is_detaching(runtime):
            self.feed.hurry()  # the runtime's change wakes us
        else:
            await claiming.release(self.client, self._inputs, machine, desired.held_uids(runtime))


def _scoped(machine: Machine, names: Iterable[str]) -> list[str]:
    return [f"{machine.metadata.namespace}/{name}" for name in names]
