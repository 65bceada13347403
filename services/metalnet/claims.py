"""Who has which device, on disk: one file a claim, named by the interface's uid, with the device's name in it.

The format is the original's, so that a hypervisor can be handed over either way. A file that an operator puts there
reserves a device: its owner is no interface, and nobody here releases it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from services.metalnet.model.devices import Device, DevicePool
from services.metalnet.model.overlay import InterfaceId


class DeviceClaims:
    """The pool of a hypervisor with its claims below `directory`. Raises ForeignClaim, OSError."""

    def __init__(self, directory: Path, devices: Sequence[Device]) -> None:
        self._directory = directory / "netfns" / "claims"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._pool = DevicePool(devices, self._read())

    @property
    def pool(self) -> DevicePool:
        """Who has what; change it through this object only."""
        return self._pool

    async def claim(self, owner: InterfaceId) -> Device:
        """The owner's device, durably its own. Raises PoolExhausted, OSError."""
        known = self._pool.device_of(owner)
        if known is not None:
            return known
        device = self._pool.claim(owner)
        # Shielded: a cancelled caller must not leave a file whose device somebody else gets.
        write = asyncio.ensure_future(asyncio.to_thread(self._write, owner, device.name))
        try:
            await asyncio.shield(write)
        except OSError:
            self._pool.release(owner)
            raise
        return device

    async def release(self, owner: InterfaceId) -> bool:
        """Frees the owner's device; False when it had none."""
        if self._pool.device_of(owner) is None:
            return False
        await asyncio.to_thread(self._remove, owner)
        self._pool.release(owner)
        return True

    def _read(self) -> dict[InterfaceId, str]:
        claims = {}
        for file in sorted(self._directory.iterdir()):
            if file.name.startswith("."):
                file.unlink()  # a write that was cut off
            else:
                claims[InterfaceId(file.name)] = file.read_text().strip()
        return claims

    def _write(self, owner: InterfaceId, name: str) -> None:
        """Complete or absent, also after a power failure."""
        draft = self._directory / f".{owner}"
        with draft.open("w") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._directory / owner)
        self._sync()

    def _remove(self, owner: InterfaceId) -> None:
        (self._directory / owner).unlink(missing_ok=True)
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
