"""The runtime itself: version, classes and capacity, events, console; and the servicer made of all parts."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import grpc

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from protos.iri.machine.v1alpha1 import machine_pb2_grpc
from services.libvirt_provider.model.classes import quantity
from services.libvirt_provider.server.answers import Calls
from services.libvirt_provider.server.machines import MachineCalls
from services.libvirt_provider.server.network_interfaces import NetworkInterfaceCalls
from services.libvirt_provider.server.volumes import VolumeCalls

# Clients make it the type part of a machine's id; it is the name that the original answers.
RUNTIME_NAME = "libvirt-provider"


class RuntimeCalls(Calls):
    """Calls that are not about one machine's parts."""

    async def Version(self, request: pb.VersionRequest, context: Any) -> pb.VersionResponse:
        """Name and semantic version; the client's own version does not matter."""
        try:
            release = version("ferrite")
        except PackageNotFoundError:
            release = "0.0.0"
        return pb.VersionResponse(runtime_name=RUNTIME_NAME, runtime_version=release)

    async def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:
        """Every class with the number of machines that the whole host holds. UNAVAILABLE while libvirt is away.

        Pools take the answer for a sign of health: no machine is scheduled to a host that can't start one.
        """
        if problem := self.problem():
            await context.abort(grpc.StatusCode.UNAVAILABLE, problem)
        answer = pb.StatusResponse()
        for each in self.classes.values():
            status = answer.machine_class_status.add(quantity=quantity(each, self.host))
            status.machine_class.name = each.name
            status.machine_class.capabilities.resources.update(each.resources)
        return answer

    async def ListEvents(self, request: pb.ListEventsRequest, context: Any) -> pb.ListEventsResponse:
        """What happened lately, oldest first."""
        return pb.ListEventsResponse(events=self.recorder.select(request.filter))

    async def Exec(self, request: pb.ExecRequest, context: grpc.aio.ServicerContext) -> pb.ExecResponse:
        """Not offered: UNIMPLEMENTED, or NOT_FOUND for an unknown machine."""
        if self.store.get(request.machine_id) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"machine {request.machine_id!r} not found")
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "this runtime serves no console streams; read the console log"
        )
        raise AssertionError("abort returned")


class MachineRuntime(
    MachineCalls, VolumeCalls, NetworkInterfaceCalls, RuntimeCalls, machine_pb2_grpc.MachineRuntimeServicer
):
    """machine.v1alpha1.MachineRuntime."""
