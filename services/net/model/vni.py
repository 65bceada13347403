"""Which virtual network number (VNI) a network gets."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

PUBLIC: Final = 100
"""The data plane's public network: no network of a tenant may have its number."""
DEFAULT_MIN: Final = 200
# 24 bits, RFC 7348 section 5.
DEFAULT_MAX: Final = 0xFFFFFF


def free_vni(taken: Set[int], low: int, high: int, start: int) -> int | None:
    """The first free number in [low, high], walking up from `start` and around; None when there is none.

    A random `start` keeps a deleted network's number out of use for a while: late packets must not reach its heir.
    """
    blocked = {number for number in taken if low <= number <= high}
    if low <= PUBLIC <= high:
        blocked.add(PUBLIC)
    size = high - low + 1
    if len(blocked) >= size:
        return None
    offset = (start - low) % size
    return next(vni for step in range(size) if (vni := low + (offset + step) % size) not in blocked)
