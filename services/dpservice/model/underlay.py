"""Underlay addresses: a /128 of the host's /64 for every function.

bytes 0-7    the host's prefix
byte  8      0xd0, so that all of them lie in <prefix>:d000::/68
byte  9      subtype, 0
byte  10     0x80 when the caller chose the address
byte  11     random; 1 in the reproducible mode of test suites
bytes 12-15  a counter, big-endian, incremented before use
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NewType

from services.dpservice.model.errors import Unreadable

UnderlayAddress = NewType("UnderlayAddress", IPv6Address)

FUNCTION_RANGE: Final = 0xD0
CHOSEN_BY_CALLER: Final = 0x80
COUNTER_LIMIT: Final = 1 << 32
COUNTER_START: Final = 256  # the counter starts below it


def is_generated(address: IPv4Address | IPv6Address) -> bool:
    """Does it look like one that a host made by itself?"""
    packed = address.packed
    return len(packed) == 16 and packed[8] == FUNCTION_RANGE and not packed[10] & CHOSEN_BY_CALLER


@dataclass
class UnderlayAllocator:
    """Makes underlay addresses of one host. An address comes again only after the counter went round.

    With `reproducible` the first address of host fc00:1::1 is fc00:1::d000:1:0:1.
    """

    host: IPv6Address
    reproducible: bool = False
    counter: int = -1
    random: random.Random = field(default_factory=random.SystemRandom)

    def __post_init__(self) -> None:
        if self.counter < 0:
            self.counter = 0 if self.reproducible else self.random.randrange(COUNTER_START)

    @property
    def prefix(self) -> bytes:
        """The upper 64 bits of every address."""
        return self.host.packed[:8]

    def generate(self, taken: Callable[[UnderlayAddress], bool]) -> UnderlayAddress:
        """The next address that is not taken."""
        while True:
            self.counter = (self.counter + 1) % COUNTER_LIMIT
            noise = 1 if self.reproducible else self.random.randrange(256)
            low = bytes((FUNCTION_RANGE, 0, 0, noise)) + self.counter.to_bytes(4, "big")
            address = UnderlayAddress(IPv6Address(self.prefix + low))
            if not taken(address):
                return address

    def accept(self, preferred: IPv6Address) -> UnderlayAddress:
        """An address that the caller chose. Raises Unreadable: not of this host's /64, or not marked as chosen."""
        packed = preferred.packed
        if packed[:8] != self.prefix or not packed[10] & CHOSEN_BY_CALLER:
            raise Unreadable("Invalid preferred_underlay_route")
        return UnderlayAddress(preferred)
