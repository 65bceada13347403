"""What whoever runs a process asks it: /metrics, /healthz (it lives), /readyz (it does its work)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from services.common.addresses import join_address, split_address
from services.common.health import Health


@asynccontextmanager
async def ops_server(listen: str, health: Health) -> AsyncIterator[str]:
    """Serves while the context is open and yields the bound `host:port`.

    Raises ValueError when `listen` is not `host:port`, OSError when the address can't be had.
    """
    host, port = split_address(listen)
    application = web.Application()
    application.add_routes(
        [web.get("/metrics", _metrics), web.get("/healthz", _healthz), web.get("/readyz", _readyz(health))]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host or None, port).start()
        yield join_address(host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _metrics(request: web.Request) -> web.Response:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})


async def _healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _readyz(health: Health) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def readyz(request: web.Request) -> web.Response:
        problems = health.problems()
        return web.Response(text="\n".join(problems or ["ok"]) + "\n", status=503 if problems else 200)

    return readyz
