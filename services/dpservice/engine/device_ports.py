"""Which port a device serves: an array for the devices with small numbers, and a hash for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.dpservice.engine.codec import u32
from services.dpservice.engine.libbpf import Map
from services.dpservice.model.rows import PortNumber

DEVICE_NUMBERS: Final = 16384  # as in maps.h


class DevicePorts:
    """Nobody else writes these maps, so that the devices of a port are known without walking them.

    Every call raises OSError.
    """

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._array, self._hash = maps["device_ports"], maps["port_of_device"]
        self._port_of: dict[int, PortNumber] = {}  # by ifindex
        self._devices_of: dict[PortNumber, set[int]] = {}
        for key, owner in self._hash.items():
            self._note(int.from_bytes(key, "little"), PortNumber(int.from_bytes(owner, "little")))

    def set(self, ifindex: int, number: PortNumber | None) -> None:
        """Makes a device serve a port, or none."""
        if ifindex < DEVICE_NUMBERS:
            self._array.put(u32(ifindex), u32(0 if number is None else number + 1))
        if number is None:
            self._hash.remove(u32(ifindex))
        else:
            self._hash.put(u32(ifindex), u32(number))
        self._note(ifindex, number)

    def release(self, number: PortNumber) -> None:
        """Takes a port from all devices that serve it."""
        for ifindex in list(self._devices_of.get(number, ())):
            self.set(ifindex, None)

    def forget(self) -> None:
        """The maps have been emptied."""
        self._port_of.clear()
        self._devices_of.clear()

    def _note(self, ifindex: int, number: PortNumber | None) -> None:
        old = self._port_of.pop(ifindex, None)
        if old is not None:
            self._devices_of[old].discard(ifindex)
        if number is not None:
            self._port_of[ifindex] = number
            self._devices_of.setdefault(number, set()).add(ifindex)
