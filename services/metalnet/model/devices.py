"""The devices of a hypervisor that machines can have, and who has which."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.metalnet.model.overlay import InterfaceId

FIRST_GUEST_TAP: Final = 2  # net_tap0 and net_tap1 are the data plane's uplinks in its TAP mode
IFNAME_LIMIT: Final = 15  # bytes of a Linux interface name


@dataclass(frozen=True)
class Device:
    """`name` is what a machine is given (and what a claim names), `port` the data plane's name for it."""

    name: str
    port: str


class ForeignClaim(ValueError):
    """A stored claim that does not fit the pool: unknown device, or one that has an owner already."""


class PoolExhausted(Exception):
    """Every device has an owner."""


def tap_devices(prefix: str, count: int) -> list[Device]:
    """TAPs `<prefix><k>`, which the data plane knows as net_tap<k+2>. ValueError for names that Linux won't take."""
    devices = [Device(f"{prefix}{index}", f"net_tap{index + FIRST_GUEST_TAP}") for index in range(count)]
    if not prefix or any(len(device.name) > IFNAME_LIMIT for device in devices):
        raise ValueError(f"{prefix!r} and a number must be an interface name of at most {IFNAME_LIMIT} characters")
    return devices


class DevicePool:
    """Gives each interface at most one device, and each device at most one owner.

    `claims` are those of an earlier life: owner to device name. Raises ForeignClaim.
    """

    def __init__(self, devices: Sequence[Device], claims: Mapping[InterfaceId, str]) -> None:
        by_name = {device.name: device for device in devices}
        self._owned: dict[InterfaceId, Device] = {}
        self._ports = {device.port for device in devices}
        free = dict(by_name)
        for owner, name in claims.items():
            if name not in by_name:
                raise ForeignClaim(f"claim {owner} names {name!r}, which is not a device of this host")
            if name not in free:
                raise ForeignClaim(f"claim {owner} names {name!r}, which another claim names as well")
            self._owned[owner] = free.pop(name)
        # Longest free first: whoever had a device last may not have closed it yet.
        self._free = deque(free.values())
        self._size = len(by_name)

    @property
    def owners(self) -> frozenset[InterfaceId]:
        """Who has a device."""
        return frozenset(self._owned)

    def has_port(self, port: str) -> bool:
        """Whether the data plane's device belongs to this pool."""
        return port in self._ports

    def device_of(self, owner: InterfaceId) -> Device | None:
        """The owner's device."""
        return self._owned.get(owner)

    def claim(self, owner: InterfaceId) -> Device:
        """The owner's device, a free one if it has none. Raises PoolExhausted."""
        if owner in self._owned:
            return self._owned[owner]
        if not self._free:
            raise PoolExhausted(f"all {self._size} devices of this host have an owner")
        device = self._owned[owner] = self._free.popleft()
        return device

    def release(self, owner: InterfaceId) -> None:
        """The owner has no device any more; it need not have had one."""
        device = self._owned.pop(owner, None)
        if device is not None:
            self._free.append(device)
