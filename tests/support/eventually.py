"""Waiting for a state, with a deadline and the last value seen."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


World = Callable[[], object]

WITHIN = 30.0
"""Seconds; costs nothing where all is well, and a busy machine needs them."""


# Two signatures, the awaitable first: a type checker can't tell T from Awaitable[T] in a union of both.
@overload
async def eventually(
    look: Callable[[], Awaitable[T | None]], within: float = WITHIN, world: World | None = None, *, every: float = 0.02
) -> T: ...


@overload
async def eventually(
    look: Callable[[], T | None], within: float = WITHIN, world: World | None = None, *, every: float = 0.02
) -> T: ...


async def eventually(
    look: Callable[[], Any], within: float = WITHIN, world: World | None = None, *, every: float = 0.02
) -> Any:
    """Looks until the value is truthy and returns it; AssertionError with the last value or exception otherwise.

    A look that hangs is cut off at the deadline, too. `world()` is shown as well when the time is over.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    last: object = None
    while True:
        try:
            value = look()
            if inspect.isawaitable(value):
                # At least a little: the last look shall not be cut off before it began.
                async with asyncio.timeout_at(max(deadline, loop.time() + 1.0)):
                    value = await value
            if value:
                return value
            last = value
        except Exception as error:
            last = error
        if loop.time() >= deadline:
            shown = f"\n{world()}" if world is not None else ""
            raise AssertionError(f"not within {within} s; last seen: {last!r}{shown}")
        await asyncio.sleep(every)
