"""Machines: create, list, delete, annotations, power."""

from __future__ import annotations

import time
import uuid
from typing import Any

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.model import machine as rules
from services.libvirt_provider.model.events import labels_fit
from services.libvirt_provider.model.refusals import Invalid
from services.libvirt_provider.server.answers import Calls, refusing, required


class MachineCalls(Calls):
    """Calls about whole machines."""

    async def ListMachines(self, request: pb.ListMachinesRequest, context: Any) -> pb.ListMachinesResponse:
        """All that fit the filter, oldest first; an unknown id gives an empty list. Secrets are included."""
        wanted = request.filter
        if wanted.id:
            record = self.store.get(wanted.id)
            records = [record] if record else []
        else:
            records = list(self.store)
        machines = [each.machine for each in records if labels_fit(each.machine.metadata.labels, wanted.label_selector)]
        return pb.ListMachinesResponse(machines=machines)

    @refusing
    async def CreateMachine(self, request: pb.CreateMachineRequest, context: Any) -> pb.CreateMachineResponse:
        """Stores the machine and answers; it is started afterwards. An id that the client sends is ignored."""
        required(request, "machine")
        required(request.machine, "metadata", "spec")
        class_name = getattr(request.machine.spec, "class")  # a keyword of Python
        machine_class = self.classes.get(class_name)
        if machine_class is None:
            raise Invalid("machine.spec.class", f"machine class '{class_name}' not supported")
        for nic in request.machine.spec.network_interfaces:
            self.nics.check(nic)
        record = rules.new_record(request.machine, machine_class, str(uuid.uuid4()), time.time_ns())
        await self.store.create(record)
        return pb.CreateMachineResponse(machine=record.machine)

    @refusing
    async def DeleteMachine(self, request: pb.DeleteMachineRequest, context: Any) -> pb.DeleteMachineResponse:
        """Begins the deletion; the machine is listed until it is gone."""
        required(request, "machine_id")
        await self.store.update(request.machine_id, lambda record: rules.mark_deleted(record, time.time_ns()))
        return pb.DeleteMachineResponse()

    @refusing
    async def UpdateMachineAnnotations(
        self, request: pb.UpdateMachineAnnotationsRequest, context: Any
    ) -> pb.UpdateMachineAnnotationsResponse:
        """Replaces all annotations."""
        required(request, "machine_id")
        await self.store.update(request.machine_id, lambda record: rules.set_annotations(record, request.annotations))
        return pb.UpdateMachineAnnotationsResponse()

    @refusing
    async def UpdateMachinePower(
        self, request: pb.UpdateMachinePowerRequest, context: Any
    ) -> pb.UpdateMachinePowerResponse:
        """Switches the machine on or off, soon."""
        required(request, "machine_id")
        await self.store.update(
            request.machine_id, lambda record: rules.set_power(record, request.power, time.time_ns())
        )
        return pb.UpdateMachinePowerResponse()
