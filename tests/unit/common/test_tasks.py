from __future__ import annotations

import asyncio

import pytest

from services.common.tasks import Backoff, forever, leaves


def test_back_off_doubles_up_to_its_limit_and_starts_again() -> None:
    backoff = Backoff(first=1, limit=5)
    assert [round(backoff.next() / wanted) for wanted in (1, 2, 4, 5, 5)] == [1, 1, 1, 1, 1]
    backoff.reset()
    assert 0.8 <= backoff.next() <= 1.2


async def test_forever_survives_failures_and_ends_when_cancelled() -> None:
    attempts = 0
    enough = asyncio.Event()

    async def attempt() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 5:
            enough.set()
        if attempts % 2:
            raise ValueError("again")

    task = asyncio.create_task(forever("test", attempt, Backoff(first=0.001, limit=0.002)))
    async with asyncio.timeout(5):
        await enough.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_leaves_of_nested_groups() -> None:
    one, two = ValueError("1"), OSError("2")
    assert leaves(ExceptionGroup("", [one, ExceptionGroup("", [two])])) == [one, two]
    assert leaves(one) == [one]
