from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apimachinery.runtime.schedule import RetryPolicy, Schedule

POLICY = RetryPolicy(first=1.0, limit=10.0)


@pytest.mark.parametrize(
    ("failures", "delay"),
    [
        pytest.param(1, 1.0, id="first failure waits the first delay"),
        pytest.param(3, 4.0, id="delays double"),
        pytest.param(5, 10.0, id="up to the limit"),
        pytest.param(5000, 10.0, id="no overflow after thousands of failures"),
    ],
)
def test_retry_policy(failures: int, delay: float) -> None:
    assert POLICY.delay(failures) == delay


def test_a_key_added_twice_is_taken_once() -> None:
    schedule: Schedule[str] = Schedule()
    assert schedule.add("a")
    assert not schedule.add("a")
    assert schedule.take(0) == "a"
    assert schedule.take(0) is None


def test_a_key_added_while_taken_is_due_again_when_done_and_not_before() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a")
    schedule.take(0)
    schedule.add("a")
    assert schedule.take(0) is None
    schedule.done("a")
    assert schedule.take(0) == "a"


def test_keys_come_in_the_order_they_became_due() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add_after("late", 5, now=0)
    schedule.add_after("soon", 1, now=0)
    schedule.add("now")
    assert [schedule.take(0), schedule.take(0.9), schedule.take(1), schedule.take(5)] == ["now", None, "soon", "late"]


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param(1, 9, id="earlier request first"), pytest.param(9, 1, id="earlier request second")],
)
def test_the_earliest_of_two_delays_counts_and_the_other_is_void(first: float, second: float) -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add_after("a", first, now=0)
    schedule.add_after("a", second, now=0)
    assert schedule.next_at() == 1
    assert schedule.take(1) == "a"
    schedule.done("a")
    assert schedule.take(100) is None


def test_adding_now_ends_a_delay() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add_after("a", 5, now=0)
    schedule.add("a")
    assert schedule.take(0) == "a"
    schedule.done("a")
    assert schedule.next_at() is None
    assert schedule.take(5) is None


def test_back_off_grows_per_key_until_forgotten() -> None:
    schedule: Schedule[str] = Schedule(POLICY)
    assert [schedule.retry("a", 0), schedule.retry("a", 0), schedule.retry("b", 0)] == [1, 2, 1]
    schedule.forget("a")
    assert schedule.failures("a") == 0
    assert schedule.retry("a", 0) == 1


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "after", "retry", "take", "done", "tick"]), st.sampled_from("abc")), max_size=60
)


@given(OPERATIONS)
def test_no_key_is_lost_doubled_or_given_to_two_workers(operations: list[tuple[str, str]]) -> None:
    schedule: Schedule[str] = Schedule(POLICY)
    now, owed, held = 0.0, set[str](), set[str]()
    for operation, key in operations:
        if operation == "add":
            schedule.add(key)
            owed.add(key)
        elif operation == "after":
            schedule.add_after(key, 3, now)
            owed.add(key)
        elif operation == "retry":
            schedule.retry(key, now)
            owed.add(key)
        elif operation == "tick":
            now += 1
        elif operation == "take":
            taken = schedule.take(now)
            if taken is not None:
                assert taken not in held
                assert taken in owed
                held.add(taken)
                owed.discard(taken)
        elif key in held:
            schedule.done(key)
            held.discard(key)
    for key in list(held):
        schedule.done(key)
    rest = []
    while (taken := schedule.take(now + 1000)) is not None:
        rest.append(taken)
    assert sorted(rest) == sorted(owed)
