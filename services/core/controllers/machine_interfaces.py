"""Controller `machineephemeralnetworkinterface`: the interfaces that live and die with a machine."""

from __future__ import annotations

from collections.abc import Iterable

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from services.apimachinery.runtime.manager import Manager
from services.core.controllers.ephemeral import EphemeralChildren
from services.core.model import ephemeral, names


class MachineInterfaces(EphemeralChildren[Machine, NetworkInterface]):
    """Makes `<machine>-<item>`, claimed by the machine from the start."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager, "machine-ephemeral-network-interface", Machine, NetworkInterface)

    async def wanted(self, owner: Machine) -> list[NetworkInterface]:
        """See `model.ephemeral.interfaces_of`."""
        return ephemeral.interfaces_of(owner)

    def names(self, owner: Machine) -> Iterable[str]:
        """Of the items with a template."""
        items = owner.spec.network_interfaces
        return [names.machine_child(owner.metadata.name, item.name) for item in items if item.HasField("ephemeral")]
