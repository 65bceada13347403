"""Device names of a machine's disks: two letters for the bus, then a counting suffix (a..z, aa..zz)."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from services.apimachinery.errors import BadRequest
from services.apimachinery.schema.schema import Tree

BUS: Final = "od"
"""The bus of generated names."""
LAST_INDEX: Final = 700
"""The last index that is generated, as in the original: 701 names, oda to odzy."""

_DEVICE: Final = re.compile(r"([a-z]{2})([a-z]{1,2})")


def suffix(index: int) -> str:
    """The suffix that counts `index` from 0: a..z, then aa..zz."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[index] if index < 26 else letters[index // 26 - 1] + letters[index % 26]


def assign_devices(machine: Tree, old: Tree | None = None) -> None:
    """Gives each of spec.volumes without a device the one that the disk of its name has in `old`, else the first free
    `od` name, in the order of the list. A written machine that leaves devices out thus never renames a disk in use.

    Raises BadRequest for a malformed or repeated name, and when all names are taken.
    """
    volumes = machine.get("spec", {}).get("volumes", [])
    missing = [volume for volume in volumes if not volume.get("device")]
    if not missing:
        return
    taken = _given(volumes)
    had = {volume["name"]: volume.get("device") for volume in (old or {}).get("spec", {}).get("volumes", [])}
    for volume in list(missing):
        device = had.get(volume.get("name"))
        if device and device not in taken:
            volume["device"] = device
            taken.add(device)
            missing.remove(volume)
    names = (f"{BUS}{suffix(index)}" for index in range(LAST_INDEX + 1))
    free = list(islice((name for name in names if name not in taken), len(missing)))
    if len(free) < len(missing):
        raise BadRequest(
            f"spec.volumes: all {LAST_INDEX + 1} device names {BUS}a to {BUS}{suffix(LAST_INDEX)} are taken"
        )
    for volume, name in zip(missing, free, strict=True):
        volume["device"] = name


def _given(volumes: list[Tree]) -> set[str]:
    taken: set[str] = set()
    for at, volume in enumerate(volumes):
        device = volume.get("device")
        if not device:
            continue
        if not _DEVICE.fullmatch(device):
            raise BadRequest(
                f"spec.volumes[{at}].device: {device!r} is not two letters and one or two more, such as oda"
            )
        if device in taken:
            raise BadRequest(f"spec.volumes[{at}].device: {device} is the device of another volume")
        taken.add(device)
    return taken
