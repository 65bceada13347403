"""Running a process from its settings to its exit code.

    async def main(settings: Settings, health: Health) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(settings), name="server")
            health.ready()

    def run(arguments: list[str]) -> None:
        run_service(main, load(Settings, arguments, "ferrite metalbond server"), "metalbond-server")

Exit codes: 0 = asked to end by SIGTERM or SIGINT and drained, 1 = failed, 2 = wrong settings.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, NoReturn

from services.common import logs, telemetry
from services.common.health import Health
from services.common.settings import WRONG_SETTINGS, S, ServiceSettings
from services.common.tasks import leaves, stop_signals

log = logs.get_logger(__name__)

DRAIN_SECONDS: Final = 15.0
"""From the signal to the end; whoever does not clean up within it is left behind (an orchestrator kills after 30)."""

Main = Callable[[S, Health], Coroutine[Any, Any, None]]


def run_service(main: Main[S], settings: S, service: str, **fields: Any) -> None:
    """Runs `main(settings, health)` until a signal, then cancels it and lets it clean up; ends the process.

    Configures logging (`service` and `fields` stand on every line) and serves /metrics, /healthz and /readyz at
    `settings.ops_listen`. `main` is to run for ever: its return is an error as much as its exception.
    """
    logs.configure(settings.log_level, settings.log_format, service=service, **fields)
    start_tracing(settings, service, **fields)
    try:
        code = asyncio.run(_supervise(main, settings))
    finally:
        telemetry.shutdown()
    _leave(code)


def start_tracing(settings: ServiceSettings, service: str, **fields: str) -> None:
    """Traces, if the settings ask for them; raises SystemExit for unusable settings."""
    try:
        telemetry.configure(settings, service, **fields)
    except (OSError, ValueError) as error:
        print(f"{service}: {error}", file=sys.stderr)
        raise SystemExit(WRONG_SETTINGS) from None


def _leave(code: int) -> NoReturn:
    """The interpreter would wait for the threads of pools, and a blocking library may hold one for ever."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


async def _supervise(main: Main[S], settings: S) -> int:
    health = Health()
    async with AsyncExitStack() as stack:
        try:
            if settings.ops_listen:
                # Loaded when needed: the HTTP library takes a noticeable part of a process's start.
                from services.common.ops import ops_server

                address = await stack.enter_async_context(ops_server(settings.ops_listen, health))
                log.info("ops endpoint opened", address=address)
        except (OSError, ValueError) as error:
            log.error("ops endpoint failed", error=str(error))
            return 1
        return await _until_signal(main(settings, health), health)


async def _until_signal(main: Coroutine[Any, Any, None], health: Health) -> int:
    signalled = asyncio.create_task(stop_signals().wait(), name="signals")
    work = asyncio.create_task(main, name="main")
    await asyncio.wait([work, signalled], return_when=asyncio.FIRST_COMPLETED)
    if not signalled.done():
        signalled.cancel()
        return _failed(work)
    health.draining()
    log.info("drain started")
    work.cancel()
    await asyncio.wait([work], timeout=DRAIN_SECONDS)
    if not work.done():
        log.error("drain took too long", seconds=DRAIN_SECONDS)
        logging.shutdown()
        # What hangs would also hold up the orderly end of the event loop.
        os._exit(1)
    if work.cancelled() or work.exception() is None:
        log.info("process ended")
        return 0
    return _failed(work)


def _failed(work: asyncio.Task[None]) -> int:
    error = None if work.cancelled() else work.exception()
    if error is None:
        log.error("process failed", error="its main task has ended")
    else:
        for leaf in leaves(error):
            log.error("process failed", error=f"{type(leaf).__name__}: {leaf}", exc_info=leaf)
    return 1
