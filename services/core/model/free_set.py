"""The free part of a range of addresses. Pure.

Kept as the largest aligned blocks that are free. A request for a length is cut from the smallest block that holds it,
the lowest one first, so that large blocks stay whole as long as possible.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from services.core.model.addresses import IPNetwork, is_inside


class NotFree(Exception):
    """The range, or a part of it, is not free."""


class FreeSet:
    """What is left of `whole` after `used`; NotFree when the used ranges overlap or stand outside."""

    def __init__(self, whole: IPNetwork, used: Iterable[IPNetwork] = ()) -> None:
        self._whole = whole
        self._bits = whole.max_prefixlen
        self._starts: dict[int, list[int]] = {whole.prefixlen: [int(whole.network_address)]}
        for network in used:
            self.remove(network)

    def __iter__(self) -> Iterator[IPNetwork]:
        """The free blocks, in the order of their addresses."""
        blocks = [(start, length) for length, starts in self._starts.items() for start in starts]
        return (self._network(start, length) for start, length in sorted(blocks))

    def __contains__(self, network: IPNetwork) -> bool:
        """Whether all of the range is free."""
        return is_inside(network, self._whole) and self._block_around(network) is not None

    def has_room(self, length: int) -> bool:
        """Whether some range of this length (in bits) is free."""
        return self._best_fit(length) is not None

    def take(self, length: int) -> IPNetwork | None:
        """Removes and returns the range that a request for a length gets, or None when there is no room."""
        fit = self._best_fit(length)
        if fit is None:
            return None
        network = self._network(self._starts[fit][0], length)
        self._cut(network, fit)
        return network

    def remove(self, network: IPNetwork) -> None:
        """Removes a range; NotFree unless all of it is free."""
        block = self._block_around(network) if is_inside(network, self._whole) else None
        if block is None:
            raise NotFree(f"{network} is not free in {self._whole}")
        self._cut(network, block)

    def _best_fit(self, length: int) -> int | None:
        if not self._whole.prefixlen <= length <= self._bits:
            return None
        return max((held for held, starts in self._starts.items() if starts and held <= length), default=None)

    def _block_around(self, network: IPNetwork) -> int | None:
        """The length of the free block that holds the range."""
        address = int(network.network_address)
        for length in range(self._whole.prefixlen, network.prefixlen + 1):
            if self._holds(self._aligned(address, length), length):
                return length
        return None

    def _cut(self, network: IPNetwork, block: int) -> None:
        """Takes the range out of the block of this length around it: what remains are the halves beside the way."""
        address = int(network.network_address)
        self._drop(self._aligned(address, block), block)
        for length in range(block + 1, network.prefixlen + 1):
            sibling = self._aligned(address, length) ^ (1 << (self._bits - length))
            insort(self._starts.setdefault(length, []), sibling)

    def _aligned(self, address: int, length: int) -> int:
        return address >> (self._bits - length) << (self._bits - length)

    def _holds(self, start: int, length: int) -> bool:
        starts = self._starts.get(length, [])
        at = bisect_left(starts, start)
        return at < len(starts) and starts[at] == start

    def _drop(self, start: int, length: int) -> None:
        starts = self._starts[length]
        del starts[bisect_left(starts, start)]

    def _network(self, start: int, length: int) -> IPNetwork:
        return type(self._whole)((start, length))
