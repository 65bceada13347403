"""Maglev tables: the vectors that peers keep, and what makes the hashing consistent."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dpservice.model.hashing import UDP, FlowKey
from services.dpservice.model.maglev import SLOTS, djb, murmur, slot_of, table
from services.dpservice.model.rows import Vni

TARGETS = [IPv6Address(f"fc00:1::8000:1234:{last}") for last in (1, 2, 3)]
SETS = st.sets(st.integers(0, 2**128 - 1).map(IPv6Address), min_size=1, max_size=64).map(sorted)
REMAPPED = 0.25  # share of slots of staying targets that may move when one of many goes


@pytest.mark.parametrize(
    ("target", "start", "width", "slots"),
    [(0, 0x4CA8E4FB, 0x3C1ADE89, 168), (1, 0x4B1A23E1, 0x3C1ADE8A, 168), (2, 0x9CB4526D, 0x3C1ADE8B, 167)],
)
def test_hashes_and_shares(target: int, start: int, width: int, slots: int) -> None:
    packed = TARGETS[target].packed
    assert (murmur(packed), djb(packed), table(TARGETS).count(target)) == (start, width, slots)


def test_first_slots() -> None:
    assert list(table(TARGETS)[:12]) == [0, 0, 2, 2, 1, 0, 1, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("source", "flow_hash", "slot", "target"),
    [("45.86.6.6", 0xEA89F889, 452, 1), ("45.86.6.106", 0xF35D4EEC, 281, 2)],
)
def test_target_of_a_flow(source: str, flow_hash: int, slot: int, target: int) -> None:
    key = FlowKey(Vni(100), UDP, ip_address(source), 53, ip_address("172.22.2.1"), 1234)
    assert (key.hash(), slot_of(key.hash())) == (flow_hash, slot)
    assert table(TARGETS)[slot] == target


def test_no_targets_no_table() -> None:
    assert table([]) == b""


@given(SETS)
@settings(max_examples=50, deadline=None)
def test_every_slot_has_a_target_and_shares_are_even(targets: list[IPv6Address]) -> None:
    made = table(targets)
    shares = Counter(made)
    assert len(made) == SLOTS
    assert set(shares) == set(range(len(targets)))
    assert max(shares.values()) - min(shares.values()) <= 1


@given(SETS.filter(lambda made: len(made) > 1), st.data())
@settings(max_examples=50, deadline=None)
def test_a_target_that_goes_moves_few_others(targets: list[IPv6Address], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(targets))
    rest = [target for target in targets if target != gone]
    before, after = table(targets), table(rest)
    owned = [slot for slot in range(SLOTS) if targets[before[slot]] != gone]
    moved = sum(targets[before[slot]] != rest[after[slot]] for slot in owned)
    assert moved <= REMAPPED * SLOTS
