"""`ferrite metalbond server`: the route reflector as a process."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from typing import Final

from services.common import logs, settings
from services.common.grpc_server import grpc_server
from services.common.health import Health
from services.common.service import run_service
from services.common.telemetry_metrics import exported
from services.common.tls import TlsFiles, tls_files
from services.metalbond.client import own_name
from services.metalbond.runs import ACCELERATED
from services.metalbond.server import door, policy
from services.metalbond.server.hub import Hub
from services.metalbond.server.metrics import ReflectorCollector
from services.metalbond.server.peering import Peering
from services.metalbond.server.reflector import Limits, Reflector
from services.metalbond.server.status import HubSource
from services.metalbond.server.tcp import TcpDoor
from services.metalbond.session import DEFAULT_INTERVAL
from services.metalbond.settings import ServerSettings
from services.metalbond.status import status_server

log = logs.get_logger(__name__)

PROGRAM: Final = "ferrite metalbond server"
# Finds streams whose other end is gone without a word, as keepalives do over TCP.
GRPC_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 7_500),
    ("grpc.http2.ping_timeout_ms", 7_500),  # holds for keepalive pings too, and is a minute by default
    ("grpc.max_concurrent_streams", 64),  # of one connection; a peer needs one
    ("grpc.http2.max_pings_without_data", 0),  # no limit: by default the third waits for a minute
)


def main(arguments: list[str]) -> None:
    """Serves until a signal. Raises SystemExit(2) for a setting that can't be used."""
    flags = ["--verbose" if flag == "-v" else flag for flag in arguments]
    loaded = settings.load(ServerSettings, flags, PROGRAM)
    try:
        tls, allowed = _tls(loaded), _policy(loaded)
    except ValueError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        raise SystemExit(settings.WRONG_SETTINGS) from None
    if loaded.verbose:
        loaded = loaded.model_copy(update={"log_level": "debug"})
    run_service(partial(serve, tls=tls, allowed=allowed), loaded, "metalbond")


async def serve(config: ServerSettings, health: Health, *, tls: TlsFiles | None, allowed: policy.Policy) -> None:
    """Serves both doors until cancelled. Raises ValueError and OSError for an address that can't be bound."""
    keepalive = config.keepalive or DEFAULT_INTERVAL
    limits = Limits(config.max_routes_per_peer, config.max_subscriptions_per_peer, config.max_pending_per_peer)
    reflector = Reflector(config.grace, limits, max_grace=config.max_grace)
    hub = Hub(
        reflector,
        max_sessions=config.max_sessions,
        max_of_address=config.max_sessions_per_address,
        policy=allowed,
        node=config.node or own_name(tls),
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(exported(ReflectorCollector(hub)))
        if config.grpc_listen:  # first: a client that found the TCP door alone, after a restart, would stay there
            grpc = grpc_server(
                config.grpc_listen, [door.SERVICE_NAME], door.register(hub), tls=tls, options=GRPC_OPTIONS
            )
            log.info("grpc listening", address=await stack.enter_async_context(grpc))
        if config.listen:
            tcp = TcpDoor(hub, keepalive)
            bound = await stack.enter_async_context(tcp.serving(config.listen))
            log.info("listening", address=bound, grace=config.grace, accelerated=ACCELERATED)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        if config.http:
            bound = await stack.enter_async_context(status_server(config.http, HubSource(hub)))
            log.info("status page opened", address=bound)
        stack.enter_context(closing(hub))
        if config.peer:
            others = Peering(hub, config.peer, keepalive=keepalive, grace=config.grace, tls=tls)
            tasks.create_task(others.run(), name="metalbond peering")
        health.ready()
        await hub.run()


def _tls(config: ServerSettings) -> TlsFiles | None:
    tls = tls_files(config.tls_ca, config.tls_cert, config.tls_key)
    remote = config.grpc_listen and not config.grpc_listen.startswith("unix:")
    if remote and tls is None and not config.grpc_insecure:
        raise ValueError("--grpc-listen: host:port needs --tls-ca, --tls-cert and --tls-key, or --grpc-insecure")
    return tls


def _policy(config: ServerSettings) -> policy.Policy:
    if not config.policy:
        return policy.OPEN
    try:
        return policy.parse(Path(config.policy).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"--policy: {error}") from error
