"""Maglev consistent hashing: which target of a load balancer gets a flow (Eisenbud et al., NSDI 2016, section 3.4).

Every host computes the same table from the same targets, so that it does not matter where a packet comes in.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Final

SLOTS: Final = 503  # a prime, so that every step width visits every slot
WORD: Final = 0xFFFFFFFF
MURMUR_SEED: Final = 16  # the length of an address
MURMUR_FACTOR: Final = 0x5BD1E995
DJB_SEED: Final = 5381


def slot_of(flow_hash: int) -> int:
    """The slot of a flow, by the hash of its key in the original direction."""
    return flow_hash % SLOTS


def table(targets: Sequence[IPv6Address]) -> bytes:
    """For each slot the index of its target in `targets`, which are in ascending order; empty without targets.

    Targets take turns; each claims its next free slot of its own sequence.
    """
    if not targets:
        return b""
    owners: list[int | None] = [None] * SLOTS
    steps = [0] * len(targets)
    courses = [_course(target) for target in targets]
    free = SLOTS
    while True:
        for index, course in enumerate(courses):
            while owners[slot := course[steps[index]]] is not None:
                steps[index] += 1
            owners[slot] = index
            free -= 1
            if not free:
                return bytes(owner for owner in owners if owner is not None)


def _course(target: IPv6Address) -> list[int]:
    """All slots in the order in which a target wants them."""
    offset, skip = murmur(target.packed) % SLOTS, djb(target.packed) % (SLOTS - 1) + 1
    return [((offset + step * skip) & WORD) % SLOTS for step in range(SLOTS)]


def murmur(address: bytes) -> int:
    """MurmurHash2 of 16 bytes as four little-endian words: where a target's sequence starts."""
    result = MURMUR_SEED
    for word in struct.unpack("<4I", address):
        mixed = word * MURMUR_FACTOR & WORD
        mixed = (mixed ^ mixed >> 24) * MURMUR_FACTOR & WORD
        result = (result * MURMUR_FACTOR & WORD) ^ mixed
    result = (result ^ result >> 13) * MURMUR_FACTOR & WORD
    return result ^ result >> 15


def djb(address: bytes) -> int:
    """djb2 in 31 bits: how far apart the slots of a target's sequence are."""
    result = DJB_SEED
    for byte in address:
        result = (result * 33 + byte) & WORD
    return result & 0x7FFFFFFF
