"""What a network interface of a machine is plugged into. One plugin per process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.model.devices import Nic


class NicPlugin(Protocol):
    """Gives network interfaces their device on the host."""

    def check(self, nic: pb.NetworkInterface) -> None:
        """Raises Invalid when this plugin can't serve the interface."""
        ...

    async def ensure(self, machine: pb.Machine, nic: pb.NetworkInterface) -> Nic:
        """The device and the handle; raises Waiting while it is being made. Repeated it changes nothing."""
        ...

    async def release(self, machine_id: str, nic: pb.NetworkInterface) -> None:
        """Gives the device back, after the guest has let go; what is not there is fine."""
        ...

    async def run(self, wake: Callable[[str], None], known: Callable[[str], bool]) -> None:
        """Watches until cancelled: `wake(machine_id)` when an interface changes; `known` tells which machines exist."""
        ...
