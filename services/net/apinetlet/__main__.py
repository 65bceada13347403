"""`ferrite net apinetlet`: one core API, one namespace of the net API."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from pydantic import Field

from services.apimachinery.client.connect import ServerSettings, connect
from services.apimachinery.runtime.leader import LeaderElection
from services.apimachinery.runtime.manager import Manager
from services.common.health import Health
from services.common.service import run_service
from services.common.settings import ServiceSettings, load
from services.net.apinetlet.network import NetworkReconciler
from services.net.apinetlet.network_interface import NetworkInterfaceReconciler

LEASE_NAMESPACE: Final = "kube-system"


class Settings(ServiceSettings):
    """Both sides."""

    core: ServerSettings = Field(description="the core API server")
    api_net: ServerSettings = Field(description="the net API server")
    api_net_namespace: str = Field(description="namespace of the net API for everything that comes from this core API")
    leader_elect: bool = Field(False, description="work only while holding the lease kube-system/apinetlet of core")


async def project(settings: Settings, health: Health) -> None:
    """Projects until cancelled."""
    client = connect(settings.core, manager="apinetlet")
    election = LeaderElection(client, "apinetlet", LEASE_NAMESPACE) if settings.leader_elect else None
    core = Manager(client, leader=election)
    net = Manager(connect(settings.api_net, manager="apinetlet"))
    core.add(NetworkReconciler(core, net, settings.api_net_namespace))
    core.add(NetworkInterfaceReconciler(core, net, settings.api_net_namespace))
    async with asyncio.TaskGroup() as group:
        group.create_task(net.run(), name="net")
        group.create_task(core.run(), name="core")
        health.add("caches", lambda: "" if core.is_synced and net.is_synced else "first lists are not complete")
        health.ready()


def main(arguments: list[str]) -> None:
    """Entry point."""
    run_service(project, load(Settings, arguments, "ferrite net apinetlet"), "apinetlet")


if __name__ == "__main__":
    main(sys.argv[1:])
