"""Which virtual network number (VNI) a network gets."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

# VNI 100 is the data plane's public network and must never be given out, hence a minimum above it.
DEFAULT_MIN: Final = 200
# 24 bits, RFC 7348 section 5.
DEFAULT_MAX: Final = 0xFFFFFF


def free_vni(taken: Set[int], low: int, high: int, start: int) -> int | None:
    """The first number in [low, high] that is not taken, walking up from `start` and around; None when all are.

    A random `start` keeps a deleted network's number out of use for a while: late packets must not reach its heir.
    """
    size = high - low + 1
    if len(taken) >= size and all(number in taken for number in range(low, high + 1)):
        return None
    offset = (start - low) % size
    return next((vni for step in range(size) if (vni := low + (offset + step) % size) not in taken), None)
