"""A real etcd for tests."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import directory, free_port, start, stop

START_SECONDS = 20.0


class EtcdProcess:
    """One member on free ports; its data survives `kill` and `start`."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.address, self._peer = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it is healthy."""
        client, peer = self.address, self._peer
        self._process = start(
            [
                "etcd",
                "--name=ft",
                f"--data-dir={self._place / 'data'}",
                f"--listen-client-urls=http://{client}",
                f"--advertise-client-urls=http://{client}",
                f"--listen-peer-urls=http://{peer}",
                f"--initial-advertise-peer-urls=http://{peer}",
                f"--initial-cluster=ft=http://{peer}",
                "--log-level=warn",
            ],
            self._place / "log",
        )
        _wait(client)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        stop(self._process)


@contextmanager
def etcd_process() -> Iterator[EtcdProcess]:
    """A running etcd that a test may kill; nothing is left afterwards."""
    with directory("etcd") as place:
        process = EtcdProcess(place)
        try:
            process.start()
            yield process
        finally:
            process.stop()


@contextmanager
def running_etcd() -> Iterator[str]:
    """Yields its client address, `127.0.0.1:port`; nothing is left afterwards. Tests share one by prefixes."""
    with etcd_process() as process:
        yield process.address


def _wait(client: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://{client}/health", timeout=1) as answer:
                if json.load(answer)["health"] == "true":
                    return
        except OSError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"etcd is not healthy after {START_SECONDS} s: {error}") from error
        time.sleep(0.05)
