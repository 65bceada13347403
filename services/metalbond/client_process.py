"""`ferrite metalbond client`: announces, follows and installs routes as a process."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import IPv6Address
from typing import Final

from services.common import logs, settings
from services.common.health import Health
from services.common.service import run_service
from services.common.telemetry_metrics import exported
from services.common.tls import TlsFiles, tls_files
from services.metalbond.client import MetalbondClient, own_name, parse_server
from services.metalbond.client_metrics import ClientCollector
from services.metalbond.client_settings import ClientSettings, parse_announcement, parse_table, parse_vni
from services.metalbond.installer.install import Installer, decapsulated
from services.metalbond.routes import Vni
from services.metalbond.session import DEFAULT_INTERVAL
from services.metalbond.status import ClientSource, status_server

log = logs.get_logger(__name__)

PROGRAM: Final = "ferrite metalbond client"


def main(arguments: list[str]) -> None:
    """Runs until a signal. Raises SystemExit(2) for a setting that can't be used."""
    flags = ["--verbose" if flag == "-v" else flag for flag in arguments]
    loaded = settings.load(ClientSettings, flags, PROGRAM)
    try:
        tls = _checked(loaded)
        client = _client(loaded, tls)
        installer = _installer(loaded, client)
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        raise SystemExit(settings.WRONG_SETTINGS) from None
    if loaded.verbose:
        loaded = loaded.model_copy(update={"log_level": "debug"})
    run_service(partial(run, client=client, installer=installer), loaded, "metalbond-client")


async def run(config: ClientSettings, health: Health, *, client: MetalbondClient, installer: Installer | None) -> None:
    """Until cancelled. Raises NetlinkError, ValueError and OSError for what can't be begun."""
    for vni in config.subscribe:
        client.subscribe(Vni(parse_vni(vni)))
    for text in config.announce:
        client.announce(parse_announcement(text))
    async with AsyncExitStack() as stack:
        stack.enter_context(exported(ClientCollector(client)))
        if config.http:
            bound = await stack.enter_async_context(status_server(config.http, ClientSource(client)))
            log.info("status page opened", address=bound)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.run(), name="metalbond")
            if installer is not None:
                tasks.create_task(installer.run(), name="route installer")
            health.ready()


def _checked(config: ClientSettings) -> TlsFiles | None:
    if not config.server:
        raise ValueError("--server: at least one is needed")
    tls = tls_files(config.tls_ca, config.tls_cert, config.tls_key)
    doors = [parse_server(server, config.grpc_port)[1] for server in config.server]
    if tls is None and not config.grpc_insecure and any(door and not door.startswith("unix:") for door in doors):
        raise ValueError("a gRPC port needs --tls-ca, --tls-cert and --tls-key, or --grpc-insecure")
    return tls


def _client(config: ClientSettings, tls: TlsFiles | None) -> MetalbondClient:
    return MetalbondClient(
        config.server,
        keepalive=config.keepalive or DEFAULT_INTERVAL,
        grace=config.grace,
        settle=config.settle,
        hold=config.hold,
        node=config.node or f"{own_name(tls)}/client",  # beside an agent's on the same host
        tls=tls,
        grpc_port=config.grpc_port,
        local_address=config.local_address,
    )


def _installer(config: ClientSettings, client: MetalbondClient) -> Installer | None:
    if not config.install_routes:
        return None
    if not config.tun:
        raise ValueError("--tun: --install-routes needs a device")
    tables = {Vni(vni): table for vni, table in map(parse_table, config.install_routes)}
    own = map(parse_announcement, config.announce if config.decapsulate else ())
    addresses = (
        (route.next_hop.address, route.destination.version)
        for route in own
        if isinstance(route.next_hop.address, IPv6Address)
    )
    return Installer(
        client,
        tables,
        config.tun,
        ipv4_only=config.ipv4_only,
        cleanup=config.cleanup,
        decapsulate=decapsulated(addresses),
    )
