"""Plugins without a control plane: QEMU's own NAT, and networks that libvirt knows by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.model.devices import Backing, LibvirtNetwork, Nic, UserNetwork
from services.libvirt_provider.model.naming import mac_address
from services.libvirt_provider.model.refusals import Invalid


class _Static:
    """Nothing to make, nothing to give back, nothing to watch."""

    def _backing(self, nic: pb.NetworkInterface) -> Backing:
        raise NotImplementedError

    def check(self, nic: pb.NetworkInterface) -> None:
        """Everything goes."""

    async def ensure(self, machine: pb.Machine, nic: pb.NetworkInterface) -> Nic:
        return Nic(nic.name, mac_address(machine.metadata.id, nic.name), self._backing(nic), handle="")

    async def release(self, machine_id: str, nic: pb.NetworkInterface) -> None:
        """Nothing was made."""

    async def run(self, wake: Callable[[str], None], known: Callable[[str], bool]) -> None:
        await asyncio.Event().wait()


class IsolatedNics(_Static):
    """`isolated`: each interface behind a NAT of its own; no machine reaches another."""

    def _backing(self, nic: pb.NetworkInterface) -> Backing:
        return UserNetwork()


class ProviderNetNics(_Static):
    """`providernet`: the interface's network_id names a libvirt network."""

    def check(self, nic: pb.NetworkInterface) -> None:
        if not nic.network_id:
            raise Invalid("network_interface.network_id", "must name a libvirt network")

    def _backing(self, nic: pb.NetworkInterface) -> Backing:
        return LibvirtNetwork(nic.network_id)
