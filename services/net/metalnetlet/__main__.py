"""`ferrite net metalnetlet`: the net API and one partition's metalnet API."""

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
from services.net.metalnetlet.network import NetworkReconciler
from services.net.metalnetlet.network_interface import NetworkInterfaceReconciler
from services.net.metalnetlet.node import NodeReconciler
from services.net.model.partition import Partition

LEASE_NAMESPACE: Final = "kube-system"


class Settings(ServiceSettings):
    """Both sides."""

    net: ServerSettings = Field(description="the net API server")
    metalnet: ServerSettings = Field(description="the partition's metalnet API server")
    # Without dots: "a" must not take the node "b.n" of partition "a.b" for its own "b.n".
    name: str = Field(
        description="name of the partition, a DNS label: first part of its global node names",
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        max_length=63,
    )
    metalnet_namespace: str = Field("default", description="namespace of everything in the metalnet API")
    node_label: dict[str, str] = Field(default_factory=dict, description="labels of every global Node, a zone perhaps")
    leader_elect: bool = Field(False, description="work only while holding a lease of the metalnet API")


async def project(settings: Settings, health: Health) -> None:
    """Projects until cancelled."""
    partition = Partition(settings.name)
    client = connect(settings.metalnet, manager="metalnetlet")
    lease = f"metalnetlet-{settings.name}"
    metalnet = Manager(client, leader=LeaderElection(client, lease, LEASE_NAMESPACE) if settings.leader_elect else None)
    net = Manager(connect(settings.net, manager="metalnetlet"))
    metalnet.add(NodeReconciler(partition, net, metalnet, settings.node_label))
    metalnet.add(NetworkReconciler(partition, net, metalnet, settings.metalnet_namespace))
    metalnet.add(NetworkInterfaceReconciler(partition, net, metalnet, settings.metalnet_namespace))
    async with asyncio.TaskGroup() as group:
        group.create_task(net.run(), name="net")
        group.create_task(metalnet.run(), name="metalnet")
        health.add("caches", lambda: "" if net.is_synced and metalnet.is_synced else "first lists are not complete")
        health.ready()


def main(arguments: list[str]) -> None:
    """Entry point."""
    run_service(project, load(Settings, arguments, "ferrite net metalnetlet"), "metalnetlet")


if __name__ == "__main__":
    main(sys.argv[1:])
