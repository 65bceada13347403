"""Network interfaces of a machine: attach, detach."""

from __future__ import annotations

from typing import Any

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.model import machine as rules
from services.libvirt_provider.server.answers import Calls, refusing, required


class NetworkInterfaceCalls(Calls):
    """Calls about network interfaces. What they ask for happens soon after; the machine's status tells."""

    @refusing
    async def AttachNetworkInterface(
        self, request: pb.AttachNetworkInterfaceRequest, context: Any
    ) -> pb.AttachNetworkInterfaceResponse:
        """Adds a network interface to the machine."""
        required(request, "machine_id", "network_interface")
        self.nics.check(request.network_interface)
        await self.store.update(request.machine_id, lambda record: rules.attach_nic(record, request.network_interface))
        return pb.AttachNetworkInterfaceResponse()

    @refusing
    async def DetachNetworkInterface(
        self, request: pb.DetachNetworkInterfaceRequest, context: Any
    ) -> pb.DetachNetworkInterfaceResponse:
        """Takes a network interface away; its status is listed until the guest has let go of it."""
        required(request, "machine_id", "name")
        await self.store.update(request.machine_id, lambda record: rules.detach_nic(record, request.name))
        return pb.DetachNetworkInterfaceResponse()
