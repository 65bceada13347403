"""A MachineRuntime and a VolumeRuntime that run nothing: the other end of IRI, in the test's process.

They keep what IRI promises (an object is listed as soon as Create returned, NotFound for what is unknown, AlreadyExists
for a name attached twice, deletion takes its time) and let a test hold answers back, refuse calls and end deletions.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc

from protos.iri.machine.v1alpha1 import machine_pb2 as machine
from protos.iri.machine.v1alpha1 import machine_pb2_grpc as machine_grpc
from protos.iri.volume.v1alpha1 import volume_pb2 as volume
from protos.iri.volume.v1alpha1 import volume_pb2_grpc as volume_grpc
from services.common.grpc_server import grpc_server


class _Runtime:
    """What both have in common; `calls` counts the calls by method."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.calls: Counter[str] = Counter()
        self.slow_deletion = False
        """Deleted objects stay, marked, until `finish_deletions`."""
        self.answer_creations = asyncio.Event()
        """While clear, a creation is done but its answer does not arrive."""
        self.answer_creations.set()
        self._refusals: dict[str, tuple[grpc.StatusCode, str]] = {}
        self._created = 0

    def refuse(self, method: str, code: grpc.StatusCode, details: str) -> None:
        """Every call of the method fails, until `allow`."""
        self._refusals[method] = code, details

    def allow(self, method: str) -> None:
        """Ends `refuse`."""
        del self._refusals[method]

    def finish_deletions(self) -> None:
        """What is marked as deleted is gone."""
        self.objects = {key: obj for key, obj in self.objects.items() if not obj.metadata.deleted_at}

    def only(self) -> Any:
        """The one object that there is."""
        (found,) = self.objects.values()
        return found

    async def begin(self, method: str, context: Any) -> None:
        self.calls[method] += 1
        if method in self._refusals:
            await context.abort(*self._refusals[method])

    async def unimplemented(self, request: Any, context: Any) -> Any:
        """No poollet calls it yet."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this runtime can't")

    async def find(self, identity: str, context: Any) -> Any:
        if identity not in self.objects:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{identity} is unknown")
        return self.objects[identity]

    def add(self, obj: Any) -> Any:
        """Stores a new object as Create does; a test may do so too."""
        self._created += 1
        obj.metadata.id = f"r-{self._created}"
        obj.metadata.created_at, obj.metadata.generation = time.time_ns(), 1
        self.objects[obj.metadata.id] = obj
        return obj

    async def delete(self, identity: str, context: Any) -> None:
        obj = await self.find(identity, context)
        if self.slow_deletion:
            obj.metadata.deleted_at = time.time_ns()
        else:
            del self.objects[identity]

    def select(self, wanted: Any) -> list[Any]:
        labels = wanted.label_selector.items()
        return [
            obj
            for obj in self.objects.values()
            if (not wanted.id or obj.metadata.id == wanted.id) and labels <= dict(obj.metadata.labels).items()
        ]


class MachineRuntime(_Runtime, machine_grpc.MachineRuntimeServicer):
    """Machines run as soon as everything is attached, which is at once unless `attaches` is false."""

    Exec = ListEvents = _Runtime.unimplemented

    def __init__(self, classes: Mapping[str, tuple[Mapping[str, int], int]]) -> None:
        super().__init__()
        self.classes, self.attaches = dict(classes), True

    def settle(self) -> None:
        """Lets every machine reach the state that is wanted."""
        for obj in self.objects.values():
            obj.status.observed_generation = obj.metadata.generation
            on = obj.spec.power == machine.POWER_ON
            obj.status.state = machine.MACHINE_RUNNING if on else machine.MACHINE_STOPPED
            del obj.status.volumes[:], obj.status.network_interfaces[:]
            for item in obj.spec.volumes:
                obj.status.volumes.add(name=item.name, handle=f"disk/{item.name}", state=machine.VOLUME_ATTACHED)
            for item in obj.spec.network_interfaces:
                obj.status.network_interfaces.add(
                    name=item.name, handle=f"nic/{item.name}", state=machine.NETWORK_INTERFACE_ATTACHED
                )

    def _changed(self, obj: Any) -> None:
        obj.metadata.generation += 1
        if self.attaches:
            self.settle()

    async def Version(self, request: Any, context: Any) -> Any:
        return machine.VersionResponse(runtime_name="test", runtime_version="1.0.0")

    async def Status(self, request: Any, context: Any) -> Any:
        await self.begin("Status", context)
        answer = machine.StatusResponse()
        for name, (capabilities, quantity) in self.classes.items():
            item = answer.machine_class_status.add(quantity=quantity)
            item.machine_class.name = name
            item.machine_class.capabilities.resources.update(capabilities)
        return answer

    async def ListMachines(self, request: Any, context: Any) -> Any:
        await self.begin("ListMachines", context)
        return machine.ListMachinesResponse(machines=self.select(request.filter))

    async def CreateMachine(self, request: Any, context: Any) -> Any:
        await self.begin("CreateMachine", context)
        created = self.add(request.machine)
        self._changed(created)
        await self.answer_creations.wait()
        return machine.CreateMachineResponse(machine=created)

    async def DeleteMachine(self, request: Any, context: Any) -> Any:
        await self.begin("DeleteMachine", context)
        await self.delete(request.machine_id, context)
        return machine.DeleteMachineResponse()

    async def UpdateMachineAnnotations(self, request: Any, context: Any) -> Any:
        await self.begin("UpdateMachineAnnotations", context)
        obj = await self.find(request.machine_id, context)
        obj.metadata.annotations.clear()
        obj.metadata.annotations.update(request.annotations)
        return machine.UpdateMachineAnnotationsResponse()

    async def UpdateMachinePower(self, request: Any, context: Any) -> Any:
        await self.begin("UpdateMachinePower", context)
        obj = await self.find(request.machine_id, context)
        obj.spec.power = request.power
        self._changed(obj)
        return machine.UpdateMachinePowerResponse()

    async def AttachVolume(self, request: Any, context: Any) -> Any:
        await self.begin("AttachVolume", context)
        await self._attach(request.machine_id, "volumes", request.volume, context)
        return machine.AttachVolumeResponse()

    async def DetachVolume(self, request: Any, context: Any) -> Any:
        await self.begin("DetachVolume", context)
        await self._detach(request.machine_id, "volumes", request.name, context)
        return machine.DetachVolumeResponse()

    async def UpdateVolume(self, request: Any, context: Any) -> Any:
        await self.begin("UpdateVolume", context)
        obj = await self.find(request.machine_id, context)
        item: Any = next((item for item in obj.spec.volumes if item.name == request.volume.name), None)
        if item is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"volume {request.volume.name} is not attached")
        item.CopyFrom(request.volume)
        self._changed(obj)
        return machine.UpdateVolumeResponse()

    async def AttachNetworkInterface(self, request: Any, context: Any) -> Any:
        await self.begin("AttachNetworkInterface", context)
        await self._attach(request.machine_id, "network_interfaces", request.network_interface, context)
        return machine.AttachNetworkInterfaceResponse()

    async def DetachNetworkInterface(self, request: Any, context: Any) -> Any:
        await self.begin("DetachNetworkInterface", context)
        await self._detach(request.machine_id, "network_interfaces", request.name, context)
        return machine.DetachNetworkInterfaceResponse()

    async def _attach(self, identity: str, member: str, item: Any, context: Any) -> None:
        obj = await self.find(identity, context)
        items = getattr(obj.spec, member)
        if any(present.name == item.name for present in items):
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{item.name} is attached already")
        items.append(item)
        self._changed(obj)

    async def _detach(self, identity: str, member: str, name: str, context: Any) -> None:
        obj = await self.find(identity, context)
        items = getattr(obj.spec, member)
        for index, present in enumerate(items):
            if present.name == name:
                del items[index]
                self._changed(obj)
                return
        await context.abort(grpc.StatusCode.NOT_FOUND, f"{name} is not attached")


class VolumeRuntime(_Runtime, volume_grpc.VolumeRuntimeServicer):
    """Volumes are available at once, with a secret; their effective size is what was asked for."""

    ListEvents = CreateVolumeSnapshot = DeleteVolumeSnapshot = ListVolumeSnapshots = _Runtime.unimplemented

    def __init__(self, classes: Mapping[str, tuple[int, int, int]]) -> None:
        super().__init__()
        self.classes = dict(classes)
        self.key = b"first"

    def settle(self) -> None:
        """Lets every volume be available in the size that is wanted."""
        for obj in self.objects.values():
            obj.status.state = volume.VOLUME_AVAILABLE
            obj.status.access.driver, obj.status.access.handle = "test", f"pool/{obj.metadata.id}"
            obj.status.access.attributes["image"] = obj.metadata.id
            obj.status.access.secret_data["userKey"] = self.key
            obj.status.resources.storage_bytes = obj.spec.resources.storage_bytes

    async def Version(self, request: Any, context: Any) -> Any:
        return volume.VersionResponse(runtime_name="test", runtime_version="1.0.0")

    async def Status(self, request: Any, context: Any) -> Any:
        await self.begin("Status", context)
        answer = volume.StatusResponse()
        for name, (tps, iops, quantity) in self.classes.items():
            item = answer.volume_class_status.add(quantity=quantity)
            item.volume_class.name = name
            item.volume_class.capabilities.tps, item.volume_class.capabilities.iops = tps, iops
        return answer

    async def ListVolumes(self, request: Any, context: Any) -> Any:
        await self.begin("ListVolumes", context)
        return volume.ListVolumesResponse(volumes=self.select(request.filter))

    async def CreateVolume(self, request: Any, context: Any) -> Any:
        await self.begin("CreateVolume", context)
        created = self.add(request.volume)
        self.settle()
        await self.answer_creations.wait()
        return volume.CreateVolumeResponse(volume=created)

    async def ExpandVolume(self, request: Any, context: Any) -> Any:
        await self.begin("ExpandVolume", context)
        obj = await self.find(request.volume_id, context)
        obj.spec.resources.CopyFrom(request.resources)
        self.settle()
        return volume.ExpandVolumeResponse()

    async def DeleteVolume(self, request: Any, context: Any) -> Any:
        await self.begin("DeleteVolume", context)
        await self.delete(request.volume_id, context)
        return volume.DeleteVolumeResponse()


@asynccontextmanager
async def serving(runtime: MachineRuntime | VolumeRuntime, listen: str) -> AsyncIterator[None]:
    """Answers on `listen` (unix:/path) while the context is open."""
    module: Any = machine_grpc if isinstance(runtime, MachineRuntime) else volume_grpc
    word = "MachineRuntime" if isinstance(runtime, MachineRuntime) else "VolumeRuntime"
    register: Callable[[Any, grpc.aio.Server], None] = getattr(module, f"add_{word}Servicer_to_server")
    protos = machine if isinstance(runtime, MachineRuntime) else volume
    name = protos.DESCRIPTOR.services_by_name[word].full_name
    async with grpc_server(listen, [name], lambda server: register(runtime, server)):
        yield
