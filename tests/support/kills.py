"""Any process may be killed at any moment: the generic test of a reconciler.

    async def test_survives_kills() -> None:
        assert await survives_kills(world, process, check) > 3

`world()` makes the durable state (API objects, files, a real server), `process(world)` is a context that starts a fresh
process over it and yields its reconcile call, `check(world)` asserts that the world is as wanted. For every await of
the call in turn, a process is killed there and a new one must bring the world to the wanted state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from enum import Enum
from itertools import count
from typing import Any, TypeVar

from services.apimachinery.errors import AlreadyExists, Conflict
from services.apimachinery.runtime.reconciler import Waiting

W = TypeVar("W")

Reconcile = Callable[[], Coroutine[Any, Any, object]]

MOST_AWAITS = 1000
"""A reconcile that suspends more often is not a step but a loop."""


MOST_CONFLICTS = 100
"""In a row; by then the informers of the new process have seen whatever the old one did."""


class Kill(Enum):
    """How a process ends."""

    SIGTERM = "cancelled: handlers and finally blocks run"
    SIGKILL = "never resumed: nothing of it runs any more"


async def survives_kills(
    world: Callable[[], Awaitable[W]],
    process: Callable[[W], AbstractAsyncContextManager[Reconcile]],
    check: Callable[[W], Awaitable[None]],
    *,
    rounds: int = 1,
) -> int:
    """Returns at how many awaits it was killed; AssertionError names the await after which it did not converge.

    `rounds` is how often the new process may reconcile: more than one where a step ends with Waiting or a delay.
    """
    for how in Kill:
        for number in count(1):
            assert number <= MOST_AWAITS, "the reconcile does not end"
            made = await world()
            async with process(made) as reconcile:
                was_killed = await _kill_at(reconcile(), number, how)
            try:
                await _converge(made, process, check, rounds)
            except Exception as error:
                raise AssertionError(f"killed by {how.name} at await {number}: {error}") from error
            if not was_killed:
                break
    return number - 1


async def _converge(
    world: W,
    process: Callable[[W], AbstractAsyncContextManager[Reconcile]],
    check: Callable[[W], Awaitable[None]],
    rounds: int,
) -> None:
    async with process(world) as reconcile:
        for left in reversed(range(rounds)):
            await _run_once(reconcile)
            try:
                await check(world)
                return
            except AssertionError:
                if not left:
                    raise


async def _run_once(reconcile: Reconcile) -> None:
    """As the runner does it: a conflict is tried again, since the victim's last request may have come in late."""
    for _ in range(MOST_CONFLICTS):
        try:
            await reconcile()
        except Waiting:
            return
        except (Conflict, AlreadyExists):
            await asyncio.sleep(0.02)
        else:
            return
    raise AssertionError(f"the reconcile met {MOST_CONFLICTS} conflicts in a row")


async def _kill_at(work: Coroutine[Any, Any, object], number: int, how: Kill) -> bool:
    """Runs `work` up to its n-th suspension; False when it ended before."""
    victim = _Victim(work, number, how)

    async def run() -> None:
        await victim

    # A task of its own: timers that the victim left behind must not cancel the test.
    try:
        await asyncio.create_task(run(), name="victim")
    except (_Killed, asyncio.CancelledError):
        assert victim.killed
    except Waiting:
        pass
    return victim.killed


class _Killed(Exception):
    """The victim was left where it stood."""


class _Victim:
    def __init__(self, work: Coroutine[Any, Any, object], number: int, how: Kill) -> None:
        self._work, self._number, self._how = work, number, how
        self.killed = False

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        try:
            for _ in range(self._number - 1):
                yield next(steps)
            awaited = next(steps)
        except StopIteration:
            return
        self.killed = True
        if self._how is Kill.SIGKILL:
            _ABANDONED.append((steps, awaited))
            raise _Killed
        if awaited is not None:
            awaited.cancel()
        try:
            # What it awaits while it cleans up is granted.
            yield steps.throw(asyncio.CancelledError())
            yield from steps
        except StopIteration:
            return


# Collecting an abandoned coroutine would run its finally blocks.
_ABANDONED: list[tuple[Any, Any]] = []
