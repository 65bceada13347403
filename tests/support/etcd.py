"""A real etcd for tests."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.processes import directory, free_port, start, stop

START_SECONDS = 20.0


@contextmanager
def running_etcd() -> Iterator[str]:
    """Yields its client address, `127.0.0.1:port`; nothing is left afterwards. Tests share one by prefixes."""
    client, peer = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with directory("etcd") as place:
        process = start(
            [
                "etcd",
                "--name=ft",
                f"--data-dir={place / 'data'}",
                f"--listen-client-urls=http://{client}",
                f"--advertise-client-urls=http://{client}",
                f"--listen-peer-urls=http://{peer}",
                f"--initial-advertise-peer-urls=http://{peer}",
                f"--initial-cluster=ft=http://{peer}",
                "--log-level=warn",
            ],
            place / "log",
        )
        try:
            _wait(client)
            yield client
        finally:
            stop(process)


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
