from __future__ import annotations

import aiohttp
import pytest

from services.common.ops import Health, ops_server


@pytest.mark.parametrize(
    ("started", "problem", "status", "text"),
    [
        pytest.param(False, "", 503, "starting\n", id="before start-up is complete"),
        pytest.param(True, "", 200, "ok\n", id="ready"),
        pytest.param(True, "unreachable", 503, "etcd: unreachable\n", id="a check complains"),
    ],
)
async def test_readyz(started: bool, problem: str, status: int, text: str) -> None:
    health = Health()
    health.add("etcd", lambda: problem)
    if started:
        health.ready()
    async with ops_server("127.0.0.1:0", health) as address, aiohttp.ClientSession(f"http://{address}") as session:
        async with session.get("/readyz") as answer:
            assert (answer.status, await answer.text()) == (status, text)
        async with session.get("/healthz") as answer:
            assert answer.status == 200
        async with session.get("/metrics") as answer:
            assert "process_cpu_seconds_total" in await answer.text()


@pytest.mark.parametrize("listen", ["", "127.0.0.1", "127.0.0.1:http"])
async def test_an_address_without_port_is_refused(listen: str) -> None:
    with pytest.raises(ValueError, match=r"^address "):
        async with ops_server(listen, Health()):
            pass
