"""Brings the disks and network interfaces of a running domain in line with its machine."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.apimachinery.runtime.reconciler import Waiting
from services.libvirt_provider.hypervisor import Hypervisor, HypervisorError, Running
from services.libvirt_provider.machine_images import MachineImages
from services.libvirt_provider.model import naming
from services.libvirt_provider.model.devices import Disk, Nic, same_backing
from services.libvirt_provider.model.domain import LiveDomain, device_xml, live_domain
from services.libvirt_provider.model.machine import Record
from services.libvirt_provider.nics import NicPlugin
from services.libvirt_provider.recorder import Recorder
from services.libvirt_provider.volumes import Volumes
from services.libvirt_provider.volumes.ceph import guest_bytes

# How long the guest gets before it is asked again to let go of a device; doubled each time.
DETACH_FIRST_SECONDS: Final = 5.0
DETACH_LIMIT_SECONDS: Final = 60.0


@dataclass
class Seen:
    """What one pass saw: the domain's libvirt state (None = no domain), its devices, and handles that became known."""

    running: Running | None = None
    live: LiveDomain = field(default_factory=lambda: LiveDomain({}, {}))
    handles: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, running: Running | None) -> Seen:
        """Of a domain, or of none."""
        return cls() if running is None else cls(running, live_domain(running.xml))

    def note(self, device: Disk | Nic) -> None:
        """Remembers a device's handle."""
        key = ("volume", device.volume) if isinstance(device, Disk) else ("nic", device.name)
        self.handles[key] = device.handle


@dataclass
class _Request:
    """The last time a guest was asked to let go of a device, and how long it gets."""

    at: float
    patience: float


class Converger:
    """Attaches what is missing, asks the guest to let go of what shall leave, grows what has grown."""

    def __init__(
        self, hypervisor: Hypervisor, images: MachineImages, volumes: Volumes, nics: NicPlugin, recorder: Recorder
    ) -> None:
        self._hypervisor = hypervisor
        self._images = images
        self._volumes = volumes
        self._nics = nics
        self._recorder = recorder
        self._requests: dict[tuple[str, str], _Request] = {}

    async def converge(self, record: Record, seen: Seen) -> float | None:
        """One pass over a running domain; returns the seconds after which a guest must be asked again.

        Everything is tried before the first failure is raised; `Waiting` is raised only when there is nothing worse.
        """
        failures: list[Exception] = []
        delays: list[float] = []

        async def attempt(step: Awaitable[float | None]) -> None:
            try:
                delay = await step
            except Exception as error:
                failures.append(error)
            else:
                if delay is not None:
                    delays.append(delay)

        for volume in record.leaving_volumes:
            if volume.name in seen.live.disks:
                await attempt(self._let_go(record, naming.volume_alias(volume.name)))
        for nic in record.leaving_nics:
            if nic.name in seen.live.nics:
                await attempt(self._let_go(record, naming.nic_alias(nic.name)))
        for volume in record.machine.spec.volumes:
            await attempt(self._ensure_disk(record, volume, seen))
        for nic in record.machine.spec.network_interfaces:
            await attempt(self._ensure_nic(record, nic, seen))
        failures.sort(key=lambda error: isinstance(error, Waiting))
        if failures:
            raise failures[0]
        return min(delays, default=None)

    def forget(self, machine_id: str) -> None:
        """The domain is gone, and with it what was asked of its guest."""
        for key in [key for key in self._requests if key[0] == machine_id]:
            del self._requests[key]

    async def _ensure_disk(self, record: Record, volume: pb.Volume, seen: Seen) -> None:
        if volume.name in seen.live.disks:
            await self._ensure_grown(record, volume, seen)
            return
        image = await self._images.get(record, volume.local_disk.image.image)
        disk = await self._volumes.ensure(record.id, volume, image)
        seen.note(disk)
        await self._attach(record, device_xml(disk), "Volume", volume.name)

    async def _ensure_grown(self, record: Record, volume: pb.Volume, seen: Seen) -> None:
        target = naming.disk_target(volume.device)
        capacity = seen.running.capacities.get(target) if seen.running else None
        if capacity is None or not volume.HasField("connection"):
            return
        wanted = guest_bytes(volume.connection)
        if wanted > capacity:
            await self._hypervisor.resize(record.id, target, wanted)
            message = f"volume {volume.name} grew from {capacity} to {wanted} bytes"
            self._recorder.normal(record.machine, "ResizeVolumeSucceeded", "ResizeVolume", message)

    async def _ensure_nic(self, record: Record, nic: pb.NetworkInterface, seen: Seen) -> float | None:
        live = seen.live.nics.get(nic.name)
        device = await self._nics.ensure(record.machine, nic)
        seen.note(device)
        if live is None:
            await self._attach(record, device_xml(device), "NIC", nic.name)
        elif not same_backing(live, device.backing):
            # Its node gave it another device: out with the old one, the event of its removal brings us back.
            return await self._let_go(record, naming.nic_alias(nic.name))
        return None

    async def _attach(self, record: Record, xml: str, what: str, name: str) -> None:
        try:
            await self._hypervisor.attach(record.id, xml)
        except HypervisorError as error:
            message = f"{what} {name} was not attached: {error}"
            self._recorder.warning(record.machine, f"AttachDetach{what}Failed", f"AttachDetach{what}", message)
            raise
        message = f"{what} {name} was attached"
        self._recorder.normal(record.machine, f"Attach{what}Succeeded", f"AttachDetach{what}", message)

    async def _let_go(self, record: Record, alias: str) -> float:
        """Asks the guest for a device, again after a growing while; its removal is an event."""
        now, key = time.monotonic(), (record.id, alias)
        last = self._requests.get(key)
        if last is not None and now < last.at + last.patience:
            return last.at + last.patience - now
        patience = min(DETACH_LIMIT_SECONDS, last.patience * 2) if last else DETACH_FIRST_SECONDS
        self._requests[key] = _Request(now, patience)
        try:
            await self._hypervisor.request_detach(record.id, alias)
        except HypervisorError as error:
            # For instance: the guest is still busy with the last request.
            self._recorder.warning(record.machine, "AttachDetachFailed", "AttachDetach", str(error))
        return patience
