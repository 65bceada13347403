"""A Ceph of one monitor, manager and OSD in one container; ends when one of them ends, to be started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from ferrite.dev.ceph import CephCluster, Daemon

DATA: Final = Path("/var/lib/ferrite/ceph")
KEY: Final = Path("/run/ferrite/ceph/provider.key")
POOL: Final = "volumes"
LOOK_SECONDS: Final = 0.5
STOP_SECONDS: Final = 8.0


def ceph(arguments: list[str]) -> int:
    """`ceph ADDRESS`: keeps data in DATA, hands the storage provider's key out as KEY. Exit code 1 if a daemon ends."""
    if len(arguments) != 1:
        print("usage: python -m ferrite.compose ceph ADDRESS", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    cluster = CephCluster(DATA / "cluster", arguments[0])
    KEY.unlink(missing_ok=True)
    cluster.prepare()
    running: list[subprocess.Popen[bytes]] = []
    try:
        running += [_start(daemon) for daemon in cluster.daemons()]
        cluster.make_osd()
        running.append(_start(cluster.osd()))
        _hand_out(cluster.set_up(POOL).key_file.read_bytes())
        print("Ceph is up", flush=True)
        while all(process.poll() is None for process in running):
            time.sleep(LOOK_SECONDS)
        ended = next(process for process in running if process.poll() is not None)
        print(f"{ended.args!r} ended with code {ended.returncode}", file=sys.stderr)
        return 1
    finally:
        _stop(running)


def _start(daemon: Daemon) -> subprocess.Popen[bytes]:
    return subprocess.Popen(daemon.command, stdin=subprocess.DEVNULL)


def _hand_out(key: bytes) -> None:
    fresh = KEY.with_suffix(".new")
    fresh.touch(mode=0o640)
    fresh.write_bytes(key)
    os.chmod(fresh, 0o640)
    fresh.replace(KEY)


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
