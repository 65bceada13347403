from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apimachinery.runtime.election import Election, Record, Timing

TIMING = Timing(lease=15, renew_deadline=10, retry=2)
WALL = 1_700_000_000.0


def held_by(holder: str, *, lease: float = 15, transitions: int = 3) -> Record:
    return Record(holder, lease, WALL, WALL, transitions)


@pytest.mark.parametrize(
    ("record", "silent_for", "claims"),
    [
        pytest.param(None, 0, True, id="no lease yet"),
        pytest.param(held_by(""), 0, True, id="given back"),
        pytest.param(held_by("other"), 0, False, id="another holds it"),
        pytest.param(held_by("other"), 14.9, False, id="another was silent for less than its lease"),
        pytest.param(held_by("other"), 15, True, id="another was silent for its lease"),
        pytest.param(held_by("other", lease=60), 15, False, id="the holder's own lease time counts"),
        pytest.param(held_by("me"), 100, True, id="mine from before a restart"),
    ],
)
def test_claim(record: Record | None, silent_for: float, claims: bool) -> None:
    election = Election("me", TIMING)
    election.observe(record, now=100)
    election.observe(record, now=100 + silent_for)
    claimed = election.claim(100 + silent_for, WALL)
    assert (claimed is not None) == claims
    if claimed is not None:
        assert claimed.holder == "me"


@pytest.mark.parametrize(
    ("before", "transitions"),
    [
        pytest.param(None, 0, id="first holder"),
        pytest.param(held_by("", transitions=3), 4, id="taken over"),
        pytest.param(held_by("me", transitions=3), 3, id="renewed"),
    ],
)
def test_transitions_count_changes_of_hands(before: Record | None, transitions: int) -> None:
    election = Election("me", TIMING)
    election.observe(before, now=0)
    claimed = election.claim(0, WALL)
    assert claimed is not None
    assert claimed.transitions == transitions


def leading_since(moment: float) -> Election:
    election = Election("me", TIMING)
    election.observe(None, moment)
    record = election.claim(moment, WALL)
    assert record is not None
    election.written(record, sent_at=moment)
    return election


def test_leads_from_the_sending_of_the_request_for_the_renew_deadline() -> None:
    election = leading_since(100)
    assert election.leads(109.9)
    assert not election.leads(110)


def test_leads_no_longer_when_the_lease_shows_another() -> None:
    election = leading_since(100)
    election.observe(held_by("other"), 101)
    assert not election.leads(101)
    assert election.release(WALL) is None


def test_release_hands_the_lease_over_at_once() -> None:
    released = leading_since(100).release(WALL)
    assert released is not None
    other = Election("other", TIMING)
    other.observe(released, 101)
    assert other.claim(101, WALL) is not None


@pytest.mark.parametrize("timing", [(10, 10, 2), (15, 2, 2), (15, 10, 0)])
def test_unsafe_times_are_refused(timing: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="lease > renew deadline > retry"):
        Timing(*timing)


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["look", "try", "lose answer"]), st.floats(0, 6)), max_size=80
)


@given(STEPS)
def test_never_two_leaders_whatever_is_lost_or_late(steps: list[tuple[int, str, float]]) -> None:
    """Three candidates with clocks of their own over one compare-and-swap lease."""
    offsets = [0.0, 1000.0, 55.5]
    candidates = [Election(f"c{number}", TIMING) for number in range(3)]
    stored: Record | None = None
    time = 0.0
    for number, what, passed in steps:
        time += passed
        now = time + offsets[number]
        candidate = candidates[number]
        candidate.observe(stored, now)
        if what != "look" and (record := candidate.claim(now, WALL + time)) is not None:
            stored = record
            if what == "try":
                candidate.written(record, now)
        leaders = [c.identity for c, offset in zip(candidates, offsets, strict=True) if c.leads(time + offset)]
        assert len(leaders) <= 1
