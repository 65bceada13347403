"""Controller `machineephemeralvolume`: the volumes that live and die with a machine."""

from __future__ import annotations

from collections.abc import Iterable

from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.objects import Key
from services.apimachinery.errors import Forbidden, NotFound
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Waiting
from services.apimachinery.runtime.recorder import NORMAL
from services.core.controllers.ephemeral import EphemeralChildren
from services.core.model import ephemeral, names


class MachineVolumes(EphemeralChildren[Machine, Volume]):
    """Makes `<machine>-<item>`; the machine's poollet claims it."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager, "machine-ephemeral-volume", Machine, Volume)
        self._classes = manager.informer(MachineClass)
        self.owners.index(f"{self.name}/class", lambda machine: [machine.spec.machine_class_ref.name])
        self.watch(self._classes, self._users)

    async def wanted(self, owner: Machine) -> list[Volume]:
        """See `model.ephemeral.volumes_of`. Waiting while a class that must tell the architecture is missing."""
        architecture = ""
        if ephemeral.needs_architecture(owner):
            architecture = (await self._class(owner)).metadata.labels.get(names.ARCHITECTURE_LABEL, "")
        return ephemeral.volumes_of(owner, architecture)

    def names(self, owner: Machine) -> Iterable[str]:
        """Of the items with a template."""
        items = owner.spec.volumes
        return [names.machine_child(owner.metadata.name, item.name) for item in items if item.HasField("ephemeral")]

    async def ensure(self, owner: Machine, child: Volume) -> None:
        """Creates a missing volume; a quota that forbids it is told to the machine's user."""
        try:
            await super().ensure(owner, child)
        except Forbidden as error:
            note = f"volume {child.metadata.name} can't be created: {error.message}"
            self.events.event(owner, NORMAL, "VolumeNotReady", note, action="Create")
            raise

    async def _class(self, machine: Machine) -> MachineClass:
        name = machine.spec.machine_class_ref.name
        try:
            return self._classes.get(name) or await self.client.get(MachineClass, name)
        except NotFound:
            note = f"MachineClass {name}, which says the image's architecture, does not exist"
            self.events.event(machine, NORMAL, "VolumeNotReady", note, action="Create")
            raise Waiting("VolumesReady", "ClassNotFound", note) from None

    def _users(self, machine_class: MachineClass) -> list[Key]:
        machines = self.owners.by_index(f"{self.name}/class", machine_class.metadata.name)
        return [Key(machine.metadata.namespace, machine.metadata.name) for machine in machines]
