"""Controller `networkinterfaceephemeralvirtualip`: the public address that is made for an interface."""

from __future__ import annotations

from collections.abc import Iterable

from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.virtual_ip_pb2 import VirtualIP
from services.apimachinery.client.objects import Key
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.owners import controller_of, owner_reference
from services.apimachinery.schema.converter import to_tree
from services.core.controllers.ephemeral import EphemeralChildren
from services.core.model import ephemeral


class InterfaceVirtualIPs(EphemeralChildren[NetworkInterface, VirtualIP]):
    """Makes a VirtualIP of the interface's name. One to be retained has no owner and is tied by its target alone."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager, "network-interface-ephemeral-virtual-ip", NetworkInterface, VirtualIP)

    async def wanted(self, owner: NetworkInterface) -> list[VirtualIP]:
        """See `model.ephemeral.virtual_ips_of`."""
        return ephemeral.virtual_ips_of(owner)

    def names(self, owner: NetworkInterface) -> Iterable[str]:
        """The interface's own name, when it has a template."""
        return [owner.metadata.name] if owner.spec.virtual_ip.HasField("ephemeral") else []

    def owner_uids(self, child: VirtualIP) -> Iterable[str]:
        """The controller and the target."""
        return {*super().owner_uids(child), *([child.spec.target_ref.uid] if child.spec.target_ref.uid else [])}

    async def reconcile(self, key: Key) -> float | None:
        """As for all children; also lets one that was retained go with its interface once the template says so."""
        await super().reconcile(key)
        interface = self.owners.get(key.name, key.namespace)
        present = self.children.get(key.name, key.namespace)
        if interface is None or present is None or not ephemeral.is_managed(present, interface):
            return None
        for wanted in await self.wanted(interface):
            if controller_of(wanted) is not None and controller_of(present) is None:
                await self._own(interface, present)
        return None

    async def _own(self, interface: NetworkInterface, present: VirtualIP) -> None:
        present.metadata.owner_references.append(owner_reference(interface, controller=True, block_deletion=True))
        references = to_tree(present)["metadata"]["ownerReferences"]
        patch = {"metadata": {"resourceVersion": present.metadata.resource_version, "ownerReferences": references}}
        await self.client.patch(VirtualIP, present.metadata.name, patch, present.metadata.namespace)
