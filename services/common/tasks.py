"""Running a process: named tasks, signals, back-off."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from services.common.logs import get_logger

log = get_logger(__name__)


@dataclass
class Backoff:
    """Delays that double up to a limit, with ±20 % jitter so that many clients don't return at once."""

    first: float = 0.1
    limit: float = 10.0
    _next: float = 0.0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        self._next = min(self.limit, self._next * 2 or self.first)
        return self._next * random.uniform(0.8, 1.2)

    def reset(self) -> None:
        """After a success."""
        self._next = 0.0


async def forever(name: str, attempt: Callable[[], Awaitable[None]], backoff: Backoff | None = None) -> None:
    """Runs `attempt` again and again; a failure is logged and waited for with back-off, a return starts it anew."""
    backoff = backoff or Backoff()
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await attempt()
        except Exception as error:
            log.warning("task failed", task=name, error=f"{type(error).__name__}: {error}")
        if asyncio.get_running_loop().time() - started > backoff.limit:
            backoff.reset()
        await asyncio.sleep(backoff.next())


async def until_signal() -> None:
    """Returns at the first SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a service's main coroutine to its end; exit code 1 with a logged reason if it fails."""
    try:
        asyncio.run(main)
    except* OSError as group:
        _fail(group)
    except* Exception as group:
        _fail(group)


def _fail(group: BaseExceptionGroup[Any]) -> None:
    for error in _leaves(group):
        log.error("process failed", error=f"{type(error).__name__}: {error}", exc_info=error)
    sys.exit(1)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
