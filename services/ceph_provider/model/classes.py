"""Volume classes: what a pool offers, and the limits that RBD enforces for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

BURST_FACTOR: Final = 10
BURST_SECONDS: Final = 15
MAX_CAPABILITY: Final = (1 << 63) // BURST_FACTOR - 1
"""A burst, too, must fit into RBD's 64 bit."""


@dataclass(frozen=True)
class VolumeClass:
    """One class. `tps` is bytes per second, `iops` operations per second; 0 = unlimited."""

    name: str
    tps: int
    iops: int


def parse_classes(document: Any) -> dict[str, VolumeClass]:
    """Reads a list of `{name, capabilities: {tps, iops}}`, by name. Raises ValueError naming entry and rule."""
    if not isinstance(document, list) or not document:
        raise ValueError("the volume classes must be a list of objects with name and capabilities")
    classes: dict[str, VolumeClass] = {}
    for index, entry in enumerate(document):
        parsed = _class(f"[{index}]", entry)
        if parsed.name in classes:
            raise ValueError(f"[{index}].name: {parsed.name!r} stands twice")
        classes[parsed.name] = parsed
    return classes


def limits(volume_class: VolumeClass) -> dict[str, int]:
    """RBD's options for the class (`rbd_qos_*`), numbers per second; a burst lasts BURST_SECONDS."""
    options: dict[str, int] = {}
    for what, amount in (("iops", volume_class.iops), ("bps", volume_class.tps)):
        for direction in ("", "read_", "write_"):
            options[f"rbd_qos_{direction}{what}_limit"] = amount
            options[f"rbd_qos_{direction}{what}_burst"] = amount * BURST_FACTOR
        options[f"rbd_qos_{what}_burst_seconds"] = BURST_SECONDS
    return options


def _class(where: str, entry: Any) -> VolumeClass:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: must be an object with name and capabilities")
    name, capabilities = entry.get("name"), entry.get("capabilities")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}.name: must be a non-empty string")
    if not isinstance(capabilities, dict):
        raise ValueError(f"{where}.capabilities: must be an object with tps and iops")
    _no_others(where, entry, "name", "capabilities")
    _no_others(f"{where}.capabilities", capabilities, "tps", "iops")
    return VolumeClass(name, _amount(where, capabilities, "tps"), _amount(where, capabilities, "iops"))


def _amount(where: str, capabilities: Mapping[str, Any], key: str) -> int:
    amount = capabilities.get(key)
    # The runtime interface's JSON writes 64 bit numbers as strings.
    if isinstance(amount, str) and amount.isascii() and amount.isdecimal():
        amount = int(amount)
    if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount <= MAX_CAPABILITY:
        raise ValueError(f"{where}.capabilities.{key}: {amount!r} is not a number from 0 to {MAX_CAPABILITY}")
    return amount


def _no_others(where: str, entry: Mapping[Any, Any], *known: str) -> None:
    for key in entry:
        if key not in known:
            raise ValueError(f"{where}.{key}: is not known; known are {', '.join(known)}")
