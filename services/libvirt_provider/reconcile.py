"""Makes libvirt match the store, one machine at a time.

Woken by the store, by domain events, by the NIC plugin and by ended image pulls. Each step looks at what is there and
acts on the difference, so a step that was cut off is simply taken again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from services.apimachinery.runtime.reconciler import Key, Reconciler, Waiting
from services.libvirt_provider.converge import Converger, Seen
from services.libvirt_provider.hypervisor import Hypervisor
from services.libvirt_provider.images.cache import Image
from services.libvirt_provider.kvm_probe import VirtType
from services.libvirt_provider.layout import StateDirectory
from services.libvirt_provider.machine_images import MachineImages
from services.libvirt_provider.model.devices import Disk, Nic
from services.libvirt_provider.model.domain import Domain, FirmwareBoot, KernelBoot, domain_xml
from services.libvirt_provider.model.machine import Record
from services.libvirt_provider.model.restarts import Restarts
from services.libvirt_provider.model.state import READY, observe, set_ready
from services.libvirt_provider.nics import NicPlugin
from services.libvirt_provider.recorder import Recorder
from services.libvirt_provider.store import MachineStore
from services.libvirt_provider.volumes import Volumes

# A guest may miss the power button while it boots, so it is pressed again.
BUTTON_SECONDS: Final = 5.0
NANOSECONDS: Final = 10**9
EMULATED: Final = "qemu"


@dataclass(frozen=True)
class Parts:
    """What a machine is made of on this host. `root_ports`: how many disks and network interfaces it can have."""

    hypervisor: Hypervisor
    images: MachineImages
    volumes: Volumes
    nics: NicPlugin
    state: StateDirectory
    root_ports: int


class MachineReconciler(Reconciler):
    """The machines of this host. `shutdown_seconds` is the grace between the power button and a forced end."""

    def __init__(
        self, store: MachineStore, parts: Parts, recorder: Recorder, *, shutdown_seconds: float, workers: int
    ) -> None:
        super().__init__("machine", workers=workers)
        self.virt_type = VirtType(EMULATED, "not chosen yet")
        self._store = store
        self._parts = parts
        self._recorder = recorder
        self._shutdown_seconds = shutdown_seconds
        self._restarts = Restarts()
        self._converger = Converger(parts.hypervisor, parts.images, parts.volumes, parts.nics, recorder)

    def wake(self, machine_id: str) -> None:
        """Makes the machine due now."""
        key, record = Key("", machine_id), self._store.get(machine_id)
        self.origins.note_header(key, record.trace if record is not None else "")
        if record is not None:
            self.queue.add(key)

    def wake_all(self) -> None:
        """Everything may have changed: after a start, or after libvirt was away."""
        for record in self._store:
            self.wake(record.id)

    def wake_image(self, reference: str) -> None:
        """A pull has ended."""
        for record in self._store:
            if reference in record.images:
                self.wake(record.id)

    async def reconcile(self, key: Key) -> float | None:
        record = self._store.get(key.name)
        if record is None:
            return None
        seen = Seen.of(await self._parts.hypervisor.lookup(record.id))
        try:
            again = await self._act(record, seen)
        except Waiting as wait:
            await self._report(record.id, seen, wait.reason, wait.message)
            raise
        except Exception as error:
            await self._report(record.id, seen, "Failed", str(error) or type(error).__name__)
            raise
        await self._report(record.id, seen)
        return again

    async def _act(self, record: Record, seen: Seen) -> float | None:
        if record.wanted_off and seen.running is not None:
            return await self._ensure_ending(record)
        if seen.running is None:
            self._converger.forget(record.id)
        await self._release_detached(record, seen)
        if record.deleting:
            await self._remove(record)
            return None
        if record.wanted_off:
            self._restarts.forget(record.id)
            return None
        if seen.running is None:
            return await self._ensure_started(record, seen)
        return await self._converger.converge(record, seen)

    async def _ensure_started(self, record: Record, seen: Seen) -> float | None:
        delay = self._restarts.delay(record.id, time.monotonic())
        if delay > 0:
            message = f"the guest ended soon after its last start; it is started again in {delay:.0f} s"
            raise Waiting(READY, "RestartBackOff", message, retry_after=delay)
        boot_image = await self._parts.images.get(record, record.boot_image)
        await asyncio.to_thread(self._prepare_directory, record)
        disks: list[Disk] = []
        nics: list[Nic] = []
        for volume in record.machine.spec.volumes:
            image = await self._parts.images.get(record, volume.local_disk.image.image)
            disks.append(await self._parts.volumes.ensure(record.id, volume, image))
        for nic in record.machine.spec.network_interfaces:
            nics.append(await self._parts.nics.ensure(record.machine, nic))
        devices: list[Disk | Nic] = [*disks, *nics]
        for device in devices:
            seen.note(device)
        directory = self._parts.state.machine(record.id)
        domain = Domain(
            machine_id=record.id,
            virt_type=self.virt_type.name,
            memory=record.memory,
            cpus=record.cpus,
            labels=record.machine.metadata.labels,
            boot=self._boot(record, boot_image),
            ignition=directory.ignition if record.machine.spec.ignition_data else None,
            console_log=directory.console_log,
            disks=disks,
            nics=nics,
            root_ports=self._parts.root_ports,
        )
        await self._parts.hypervisor.create(domain_xml(domain))
        self._restarts.started(record.id, time.monotonic())
        self._announce_start(record)
        return None

    def _announce_start(self, record: Record) -> None:
        machine, action = record.machine, "StartMachine"
        self._recorder.normal(machine, "MachineStarted", action, f"the guest was started ({self.virt_type.name})")
        if self.virt_type.name == EMULATED:
            self._recorder.warning(machine, "EmulatedVirtualization", action, self.virt_type.reason)
        if not machine.spec.ignition_data:
            self._recorder.warning(
                machine, "IgnitionDataNotFound", "SetIgnition", "Machine does not have ignition data"
            )

    def _prepare_directory(self, record: Record) -> None:
        directory = self._parts.state.machine(record.id)
        directory.prepare()
        if record.machine.spec.ignition_data:
            directory.write_ignition(record.machine.spec.ignition_data)

    def _boot(self, record: Record, image: Image | None) -> KernelBoot | FirmwareBoot:
        """A root disk is booted by UEFI; an image without one has its kernel loaded directly."""
        if image is not None and image.rootfs is None and image.kernel is not None:
            return KernelBoot(image.kernel, image.initramfs, image.command_line)
        return FirmwareBoot(self._parts.state.machine(record.id).nvram)

    async def _ensure_ending(self, record: Record) -> float:
        """The power button until the grace is over, then by force. The event of its end brings us back."""
        hypervisor, action = self._parts.hypervisor, "ShutdownMachine"
        left = record.off_since / NANOSECONDS + self._shutdown_seconds - time.time()
        if left > 0:
            await hypervisor.shutdown(record.id)
            message = "the guest was asked to shut down"
            self._recorder.normal(record.machine, "TriggerShutdownSucceeded", action, message)
            return min(BUTTON_SECONDS, left)
        await hypervisor.destroy(record.id)
        message = f"the guest did not shut down within {self._shutdown_seconds:.0f} s and was ended"
        self._recorder.warning(record.machine, "DomainDestroySucceeded", "DestroyDomain", message)
        return BUTTON_SECONDS

    async def _release_detached(self, record: Record, seen: Seen) -> None:
        """Lets go of what was detached and the guest no longer has."""
        volumes = [each for each in record.leaving_volumes if each.name not in seen.live.disks]
        nics = [each for each in record.leaving_nics if each.name not in seen.live.nics]
        for volume in volumes:
            await self._parts.volumes.release(record.id, volume)
        for nic in nics:
            await self._parts.nics.release(record.id, nic)
        if not volumes and not nics:
            return

        def drop(stored: Record) -> None:
            stored.leaving_volumes = [each for each in stored.leaving_volumes if each not in volumes]
            stored.leaving_nics = [each for each in stored.leaving_nics if each not in nics]

        await self._store.observe(record.id, drop)

    async def _remove(self, record: Record) -> None:
        """The domain is gone: everything else goes too, the record last."""
        for volume in record.machine.spec.volumes:
            await self._parts.volumes.release(record.id, volume)
        for nic in record.machine.spec.network_interfaces:
            await self._parts.nics.release(record.id, nic)
        await asyncio.to_thread(self._parts.state.machine(record.id).remove)
        self._restarts.forget(record.id)
        await self._store.remove(record.id)
        self._recorder.normal(record.machine, "MachineDeletionSucceeded", "DeleteMachine", "the machine is gone")

    async def _report(self, machine_id: str, seen: Seen, reason: str = "", message: str = "") -> None:
        """Writes what was seen; an unchanged status is not written."""

        def write(stored: Record) -> None:
            state = seen.running.state if seen.running else None
            observe(stored, state, seen.live.disks, seen.live.nics, seen.handles)
            set_ready(stored, ready=not reason, reason=reason or "Converged", message=message, now=time.time_ns())

        await self._store.observe(machine_id, write)
