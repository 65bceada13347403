"""Keeps a cluster's processes running: starts them, restarts what dies, writes a log file for each.

Runs as one background process (`ferrite dev up` starts it). SIGTERM stops everything. `status.json`
tells who runs under which pid and how often it was restarted.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.common.tasks import Backoff, until_signal

STOP_SECONDS = 8.0
# Found in the environment of every process of a cluster, by which a sweep recognises them.
MARK = "FERRITE_DEV_CLUSTER"


@dataclass(frozen=True)
class Process:
    """One process: a unique name, its command line, further environment variables, its working directory."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """Runs processes until told to stop."""

    def __init__(self, cluster: str, logs: Path, status: Path) -> None:
        self._cluster = cluster
        self._tasks: list[asyncio.Task[None]] = []
        self._logs = logs
        self._status_file = status
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._restarts: dict[str, int] = {}

    def add(self, processes: Sequence[Process]) -> None:
        """Starts these too, and keeps them running."""
        self._logs.mkdir(parents=True, exist_ok=True)
        self._tasks += [asyncio.create_task(self._keep(process), name=process.name) for process in processes]

    async def run(self) -> None:
        """Returns after SIGTERM when all processes have ended."""
        await until_signal()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop(name) for name in reversed(list(self._running))))
        self._status_file.unlink(missing_ok=True)

    async def _keep(self, process: Process) -> None:
        backoff = Backoff(first=0.2, limit=5.0)
        while True:
            started = asyncio.get_running_loop().time()
            code = await self._start_and_wait(process)
            if asyncio.get_running_loop().time() - started > 30.0:
                backoff.reset()
            delay = backoff.next()
            self._note(process.name, f"ended with code {code}, starting again in {delay:.1f} s")
            await asyncio.sleep(delay)
            self._restarts[process.name] = self._restarts.get(process.name, 0) + 1

    async def _start_and_wait(self, process: Process) -> int:
        environment = os.environ | dict(process.environment) | {MARK: self._cluster}
        with (self._logs / f"{process.name}.log").open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                *process.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._running[process.name] = child
        self._write_status()
        return await child.wait()

    async def _stop(self, name: str) -> None:
        child = self._running.get(name)
        if child is None or child.returncode is not None:
            return
        child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(child.wait(), STOP_SECONDS)
        except TimeoutError:
            child.kill()
            await child.wait()

    def _note(self, name: str, text: str) -> None:
        with (self._logs / f"{name}.log").open("a") as log:
            log.write(f"supervisor: {name} {text}\n")

    def _write_status(self) -> None:
        status = {
            name: {"pid": child.pid, "restarts": self._restarts.get(name, 0)} for name, child in self._running.items()
        }
        temporary = self._status_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(status, indent=1))
        temporary.replace(self._status_file)
