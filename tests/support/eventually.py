"""Waiting for a state, with a deadline and the last value seen."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(look: Callable[[], T | Awaitable[T]], within: float = 5.0, every: float = 0.02) -> T:
    """Looks until the value is truthy and returns it; AssertionError with the last value or exception otherwise."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    last: object = None
    while True:
        try:
            value = look()
            value = await value if inspect.isawaitable(value) else value
            if value:
                return value
            last = value
        except Exception as error:
            last = error
        if loop.time() >= deadline:
            raise AssertionError(f"not within {within} s; last seen: {last!r}")
        await asyncio.sleep(every)
