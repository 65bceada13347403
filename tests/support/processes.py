"""Child processes of tests: they die with the test process, even if that is killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# By a helper program: code between fork and exec does not go together with gRPC's threads in the parent.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
STOP_SECONDS = 20.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(arguments: Sequence[str | Path], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A child whose output goes to the end of a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [*_DIE_WITH_PARENT, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    """Ends a child and returns its exit code; it is killed if it does not end in time."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


@contextmanager
def directory(what: str) -> Iterator[Path]:
    """A temporary directory `ft-WHAT-PID-...`; those of killed test processes are removed first."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"ft-{what}-*"):
        owner = left.name.removeprefix(f"ft-{what}-").partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"ft-{what}-{os.getpid()}-", dir=base))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
