"""`ferrite metalbond server`: the route reflector as a process."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from functools import partial

from services.common import logs, settings
from services.common.grpc_server import grpc_server
from services.common.health import Health
from services.common.service import run_service
from services.common.telemetry_metrics import exported
from services.common.tls import TlsFiles, tls_files
from services.metalbond import door
from services.metalbond.metrics import ReflectorCollector
from services.metalbond.reflector import Limits, Reflector
from services.metalbond.server import Server
from services.metalbond.session import DEFAULT_INTERVAL
from services.metalbond.settings import ServerSettings

log = logs.get_logger(__name__)

USAGE = "usage: ferrite metalbond server [--config FILE] [flags]   (server --help lists the flags)"


def main(arguments: list[str]) -> None:
    """Runs the process named by the first argument to its end. Raises SystemExit(2) for a wrong command line."""
    if arguments[:1] != ["server"]:
        print(USAGE, file=sys.stderr)
        raise SystemExit(2)
    flags = ["--verbose" if flag == "-v" else flag for flag in arguments[1:]]
    loaded = settings.load(ServerSettings, flags, "ferrite metalbond server")
    try:
        tls = _tls(loaded)
    except ValueError as error:
        print(f"ferrite metalbond server: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if loaded.verbose:
        loaded = loaded.model_copy(update={"log_level": "debug"})
    run_service(partial(serve, tls=tls), loaded, "metalbond")


async def serve(config: ServerSettings, health: Health, *, tls: TlsFiles | None) -> None:
    """Serves both doors until cancelled. Raises ValueError and OSError for an address that can't be bound."""
    limits = Limits(config.max_routes_per_peer, config.max_subscriptions_per_peer)
    server = Server(
        Reflector(config.grace, limits),
        keepalive=config.keepalive or DEFAULT_INTERVAL,
        max_sessions=config.max_sessions,
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(exported(ReflectorCollector(server)))
        bound = await stack.enter_async_context(server.serving(config.listen))
        if config.grpc_listen:
            grpc = grpc_server(config.grpc_listen, [door.SERVICE_NAME], door.register(server), tls=tls)
            log.info("grpc listening", address=await stack.enter_async_context(grpc))
        log.info("listening", address=bound, grace=config.grace)
        health.ready()
        await asyncio.Event().wait()


def _tls(config: ServerSettings) -> TlsFiles | None:
    tls = tls_files(config.tls_ca, config.tls_cert, config.tls_key)
    remote = config.grpc_listen and not config.grpc_listen.startswith("unix:")
    if remote and tls is None and not config.grpc_insecure:
        raise ValueError("--grpc-listen: host:port needs --tls-ca, --tls-cert and --tls-key, or --grpc-insecure")
    return tls


if __name__ == "__main__":
    main(sys.argv[1:])
