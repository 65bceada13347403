"""The server that `bench.metalbond` measures: a process on a core of its own, and what it takes of the machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.metalbond_peers import Address
from bench.report import put_ahead
from tests.support.processes import directory, start, stop

SERVER_CORE: Final = 0
START_SECONDS: Final = 30.0


@dataclass
class Server:
    """A running server; `command` starts it, given its TCP address."""

    command: list[str]
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        return Address(self.port)

    @property
    def door(self) -> str:
        """The gRPC door."""
        return f"unix:{self.folder / 'grpc.sock'}"

    def begin(self) -> None:
        """Starts it and waits until it listens. Raises TimeoutError."""
        flags = [flag.format(listen=f"[::1]:{self.port}", door=self.door) for flag in self.command]
        self.process = start(["setsid", "taskset", "-c", str(SERVER_CORE), *flags], self.folder / "log")
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("::1", self.port)).close()
                put_ahead(Path("/proc", str(self.process.pid)))  # now that it has the session that setsid gave it
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError((self.folder / "log").read_text()[-2000:]) from None
                time.sleep(0.05)

    def kill(self) -> None:
        """Ends it without a word."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @property
    def cpu_seconds(self) -> float:
        """Its CPU time so far."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        """Its memory."""
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _proc(self, name: str) -> str:
        assert self.process is not None
        return Path("/proc", str(self.process.pid), name).read_text()


OURS: Final = [
    *(sys.executable, "-m", "services.metalbond", "server", "--log-level", "warning"),
    *("--listen", "{listen}", "--grpc-listen", "{door}"),
]


@contextmanager
def server(command: Sequence[str] = OURS) -> Iterator[Server]:
    """A server of its own."""
    with directory("bench-metalbond") as folder, socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
        probe.close()
        running = Server(list(command), folder, port)
        running.begin()
        try:
            yield running
        finally:
            assert running.process is not None
            stop(running.process)
