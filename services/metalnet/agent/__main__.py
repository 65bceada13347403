"""`ferrite metalnet agent`: realises the interfaces of one hypervisor."""

from __future__ import annotations

import asyncio
import socket
import sys
from importlib.metadata import version
from pathlib import Path

from services.apimachinery.client.connect import connect
from services.apimachinery.runtime.manager import Manager
from services.common.health import Health
from services.common.logs import get_logger
from services.common.service import run_service
from services.common.settings import load
from services.metalbond.client import MetalbondClient
from services.metalnet.agent.bond import Announcer
from services.metalnet.agent.dataplane import Dataplane, DataplaneError
from services.metalnet.agent.interfaces import NetworkInterfaceReconciler
from services.metalnet.agent.lifetime import DataplaneLifetime
from services.metalnet.agent.node import NodeRegistration
from services.metalnet.agent.routes import RouteInstaller
from services.metalnet.agent.settings import AgentSettings
from services.metalnet.claims import DeviceClaims
from services.metalnet.model.overlay import Vni

log = get_logger(__name__)


async def serve(settings: AgentSettings, health: Health) -> None:
    """Runs until cancelled."""
    client = connect(settings.metalnet, manager="metalnet-agent")
    public_vni = Vni(settings.public_vni)
    claims = DeviceClaims(Path(settings.metalnet_dir), settings.devices())
    async with Dataplane(settings.dp_service_address) as dataplane:
        lifetime = DataplaneLifetime(dataplane)
        bond = MetalbondClient(settings.metalbond_peer)
        announcer = Announcer(bond)
        routes = RouteInstaller(
            dataplane,
            bond,
            public_vni=public_vni,
            router=settings.router(),
            ipv6=settings.enable_ipv6,
            settle=settings.route_settle,
        )
        manager = Manager(client)
        interfaces = NetworkInterfaceReconciler(
            manager,
            settings.node_name,
            dataplane,
            lifetime,
            claims,
            announcer,
            routes,
            public_vni=public_vni,
            ipv6=settings.enable_ipv6,
        )
        manager.add(interfaces)
        node = NodeRegistration(
            client,
            settings.node_name,
            settings.node_lease_namespace,
            settings.node_address,
            lambda: lifetime.problem,
            heartbeat=settings.node_heartbeat,
        )
        resync = asyncio.Event()

        def dataplane_changed() -> None:
            node.changed()
            resync.set()

        health.add("dataplane", lambda: lifetime.problem)
        health.add("metalnet API", lambda: "" if manager.is_synced else "objects were not listed yet")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bond.run(), name="metalbond")
            tasks.create_task(announcer.run(interfaces.wake_all), name="announcer")
            tasks.create_task(routes.run(), name="routes")
            tasks.create_task(lifetime.run(interfaces.take_over, dataplane_changed), name="data plane")
            tasks.create_task(_greet(dataplane, lifetime), name="version")
            tasks.create_task(manager.run(), name="interfaces")
            tasks.create_task(node.run(), name="node")
            tasks.create_task(_audit(interfaces, routes, lifetime, resync, settings.audit_interval), name="audit")
            health.ready()


async def _audit(
    interfaces: NetworkInterfaceReconciler,
    routes: RouteInstaller,
    lifetime: DataplaneLifetime,
    resync: asyncio.Event,
    interval: float,
) -> None:
    """From time to time, and at once when the data plane is back: compares everything with what it has."""
    while True:
        try:
            async with asyncio.timeout(interval):
                await resync.wait()
        except TimeoutError:
            pass
        resync.clear()
        interfaces.wake_all()
        if lifetime.problem:
            continue
        routes.look_again()
        try:
            await interfaces.sweep()
        except DataplaneError as error:
            log.warning("sweep failed", error=str(error))


async def _greet(dataplane: Dataplane, lifetime: DataplaneLifetime) -> None:
    """Tells the data plane who we are, and the log who it is."""
    await lifetime.usable()
    try:
        service = await dataplane.version(f"metalnet-{socket.gethostname()}", version("ferrite"))
        log.info("data plane connected", address=dataplane.address, version=service)
    except DataplaneError as error:
        log.warning("data plane did not tell its version", error=str(error))


def main(arguments: list[str]) -> None:
    """Entry point; raises SystemExit."""
    settings = load(AgentSettings, arguments, "ferrite metalnet agent")
    run_service(serve, settings, "metalnet-agent", node=settings.node_name)


if __name__ == "__main__":
    main(sys.argv[1:])
