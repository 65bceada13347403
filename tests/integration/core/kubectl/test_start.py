"""A cold start: whoever is early is told to wait, and never that a right is missing."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ferrite.dev.certificates import Identity
from tests.integration.core.apiserver.conftest import CoreServer

POOL = Identity("compute.ironcore.dev:system:machinepool:hv-1", ("compute.ironcore.dev:system:machinepools",))
DEADLINE = 60.0


def test_nobody_is_refused_while_rights_are_made(server: CoreServer, tmp_path: Path) -> None:
    cold = CoreServer(server.etcd, tmp_path)  # a prefix of its own: nothing is there
    context = cold.identity("pool", POOL).client_context()
    url = f"https://{cold.rest}/apis/compute.ironcore.dev/v1alpha1/machines"
    seen: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(cold.start)
        try:
            deadline = time.monotonic() + DEADLINE
            while 200 not in seen and time.monotonic() < deadline:
                try:
                    seen.append(urllib.request.urlopen(url, context=context, timeout=5).status)
                except urllib.error.HTTPError as error:
                    seen.append(error.code)
                except OSError:
                    time.sleep(0.01)  # not listening yet
            starting.result()
        finally:
            cold.stop()
    assert seen[-1] == 200, seen
    assert set(seen) <= {200, 503}
