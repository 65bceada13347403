"""Sizes of volumes in bytes."""

from __future__ import annotations

from typing import Final

from services.ceph_provider.model.refusals import Invalid

MIB: Final = 1 << 20
GIB: Final = 1 << 30
OBJECT_BYTES: Final = 4 * MIB
"""Size of the RADOS objects of an image: RBD's default order, 22."""
MAX_BYTES: Final = 256_000_000 * OBJECT_BYTES // GIB * GIB
"""RBD keeps no object map of more objects than 256,000,000 (MAX_OBJECT_MAP_OBJECT_COUNT)."""


def rounded(size: int) -> int:
    """What is allocated for a requested size: whole MiB below 1 GiB, whole GiB from there."""
    unit = MIB if size < GIB else GIB
    return -(-size // unit) * unit


def check_size(field: str, size: int) -> None:
    """Raises Invalid when no image can have this size."""
    if not 0 < size <= MAX_BYTES:
        raise Invalid(field, f"{size} is not between 1 and {MAX_BYTES}")
