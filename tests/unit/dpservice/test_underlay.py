from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dpservice.model.errors import Unreadable
from services.dpservice.model.underlay import UnderlayAddress, UnderlayAllocator
from tests.unit.dpservice.builders import HOST, allocator


def never(_: UnderlayAddress) -> bool:
    return False


def test_first_reproducible_address() -> None:
    assert allocator().generate(never) == IPv6Address("fc00:1::d000:1:0:1")
    assert allocator().generate(never).packed == bytes.fromhex("fc00000100000000d000000100000001")


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 1 << 64))
def test_generated_addresses(counter: int, host: int) -> None:
    made = UnderlayAllocator(IPv6Address(host << 63), counter=counter)
    seen = {made.generate(never) for _ in range(20)}
    assert len(seen) == 20
    for address in seen:
        assert address.packed[:8] == made.prefix
        assert address.packed[8:11] == b"\xd0\0\0"


def test_counter_starts_below_256_and_is_incremented_first() -> None:
    starts = {UnderlayAllocator(HOST).counter for _ in range(100)}
    assert all(0 <= start < 256 for start in starts)
    assert len(starts) > 1
    made = UnderlayAllocator(HOST, counter=41)
    assert made.generate(never).packed[12:] == (42).to_bytes(4, "big")


def test_taken_addresses_are_passed_over() -> None:
    first = allocator().generate(never)
    assert allocator().generate(lambda address: address == first).packed[15] == 2


def test_counter_goes_round() -> None:
    made = UnderlayAllocator(HOST, reproducible=True, counter=(1 << 32) - 1)
    assert made.generate(never).packed[12:] == bytes(4)


@pytest.mark.parametrize(
    ("address", "accepted"),
    [
        pytest.param("fc00:1::d000:8000:0:1", True, id="of the host's prefix and marked"),
        pytest.param("fc00:1::8000:0:1", True, id="the ninth byte is not looked at"),
        pytest.param("fc00:1::d000:1:0:1", False, id="not marked as chosen"),
        pytest.param("fc00:2::d000:8000:0:1", False, id="of another host"),
    ],
)
def test_preferred(address: str, accepted: bool) -> None:
    if accepted:
        assert allocator().accept(IPv6Address(address)) == IPv6Address(address)
    else:
        with pytest.raises(Unreadable, match="Invalid preferred_underlay_route"):
            allocator().accept(IPv6Address(address))
