"""Where a machine's files are. Folders of the state directory are 0711: QEMU may pass through, nobody may list."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOCAL_DISK_PLUGIN: Final = "libvirt-provider.ironcore.dev/local-disk"
FOLDER_MODE: Final = 0o711


@dataclass(frozen=True)
class StateDirectory:
    """The root of all on-disk state."""

    root: Path

    @property
    def store(self) -> Path:
        """The machine records."""
        return self.root / "store" / "machines"

    @property
    def images(self) -> Path:
        """The image cache."""
        return self.root / "images"

    @property
    def kvm_probe(self) -> Path:
        """What the probe of KVM found out, for this boot of the host."""
        return self.root / "kvm-probe.json"

    def prepare(self) -> None:
        """Makes the folders; OSError when they can't be made."""
        for folder in (self.root, self.images, self.root / "machines"):
            folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)

    def machine(self, machine_id: str) -> MachineDirectory:
        """The files of one machine."""
        return MachineDirectory(self.root / "machines" / machine_id)


@dataclass(frozen=True)
class MachineDirectory:
    """The files of one machine."""

    root: Path

    @property
    def console_log(self) -> Path:
        """What the guest wrote to its serial console; QEMU appends, `console.py` bounds it."""
        return self.root / "logs" / "console.log"

    @property
    def nvram(self) -> Path:
        """UEFI's variables."""
        return self.root / "nvram.fd"

    @property
    def ignition(self) -> Path:
        """The ignition data as they were given."""
        return self.root / "ignitions" / "data.ign"

    def local_disk(self, volume: str) -> Path:
        """A local disk; the plugin's `/` becomes `~`."""
        return self.root / "volumes" / LOCAL_DISK_PLUGIN.replace("/", "~") / volume / "disk.raw"

    def nic(self, name: str) -> Path:
        """What a NIC plugin remembers of an interface."""
        return self.root / "networkinterfaces" / name

    def prepare(self) -> None:
        """Makes the folders that the domain needs."""
        for folder in (self.root, self.console_log.parent):
            folder.mkdir(exist_ok=True, mode=FOLDER_MODE)

    def write_ignition(self, data: bytes) -> None:
        """Keeps the ignition data for QEMU; they may hold secrets, hence 0640."""
        self.ignition.parent.mkdir(exist_ok=True, mode=FOLDER_MODE)
        temporary = self.ignition.with_name(".data.ign")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.rename(self.ignition)

    def remove(self) -> None:
        """Removes all of it; a missing directory is fine."""
        if self.root.exists():
            shutil.rmtree(self.root)
