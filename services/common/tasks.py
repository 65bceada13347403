"""Tasks of a process: eternal ones, back-off, signals."""

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


def stop_signals() -> asyncio.Event:
    """An event that is set at the first SIGTERM or SIGINT; from this call on they no longer kill."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def until_signal() -> None:
    """Returns at the first SIGTERM or SIGINT."""
    await stop_signals().wait()


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions inside of nested groups; the exception itself when it is no group."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in leaves(inner)]


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine to its end; exit code 1 with a logged reason if it fails. Services use `service.run_service`."""
    try:
        asyncio.run(main)
    except Exception as error:
        for leaf in leaves(error):
            log.error("process failed", error=f"{type(leaf).__name__}: {leaf}", exc_info=leaf)
        sys.exit(1)
