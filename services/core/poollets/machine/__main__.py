"""`ferrite core machinepoollet`: one pool, one MachineRuntime."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from pydantic import Field

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.iri.event.v1alpha1.event_pb2 import Event
from protos.iri.machine.v1alpha1 import machine_pb2 as iri
from protos.iri.machine.v1alpha1 import machine_pb2_grpc as iri_grpc
from services.apimachinery.client.connect import ServerSettings, connect
from services.apimachinery.runtime.manager import Manager
from services.common.health import Health
from services.common.service import run_service
from services.common.settings import ServiceSettings, load
from services.core.model.names import REGION_LABEL, ZONE_LABEL
from services.core.poollets.machine.gather import Inputs
from services.core.poollets.machine.pool import Heartbeat, PoolReconciler
from services.core.poollets.machine.reconciler import MachineReconciler
from services.core.poollets.offers import machine_offers
from services.core.poollets.relay import EventRelay
from services.core.poollets.runtime import MACHINE_SOCKETS, changes_in, runtime_channel, version


class Settings(ServiceSettings):
    """The pool and both its sides."""

    core: ServerSettings = Field(description="the core API server")
    machine_pool_name: str = Field(description="the MachinePool to run; made if it does not exist")
    provider_id: str = Field(description="its spec.providerID")
    machine_runtime_endpoint: str = Field("", description="unix:/path or host:port; empty = the well-known sockets")
    heartbeat_interval: float = Field(10.0, gt=0, description="seconds between heartbeats and questions to the runtime")
    heartbeat_lease_duration: int = Field(40, gt=0, description="seconds for which a heartbeat is good")
    topology_region_label: str = Field("", description="value of the pool's label topology.ironcore.dev/region")
    topology_zone_label: str = Field("", description="value of the pool's label topology.ironcore.dev/zone")

    def topology(self) -> dict[str, str]:
        """Labels of the pool."""
        labels = {REGION_LABEL: self.topology_region_label, ZONE_LABEL: self.topology_zone_label}
        return {name: value for name, value in labels.items() if value}


async def serve(settings: Settings, health: Health) -> None:
    """Works until cancelled."""
    client = connect(settings.core, manager="machinepoollet")
    channel = await runtime_channel(settings.machine_runtime_endpoint, MACHINE_SOCKETS)
    runtime = iri_grpc.MachineRuntimeStub(channel)
    runtime_name = await version(runtime.Version, iri.VersionRequest())

    pool = settings.machine_pool_name
    manager = Manager(client)
    machines = manager.informer(Machine, fields=f"spec.machinePoolRef.name={pool}")
    offers = machine_offers(runtime, settings.heartbeat_interval)
    machine_reconciler = MachineReconciler(manager, machines, Inputs(manager, offers), runtime, runtime_name)
    manager.add(machine_reconciler)
    manager.add(PoolReconciler(manager, pool, settings.provider_id, settings.topology(), machines, offers))
    heartbeat = Heartbeat(client, pool, settings.heartbeat_interval, settings.heartbeat_lease_duration)

    async def events(since: int, until: int) -> Iterable[Event]:
        window = iri.EventFilter(events_from_time=since, events_to_time=until)
        answer: iri.ListEventsResponse = await runtime.ListEvents(iri.ListEventsRequest(filter=window))
        return answer.events

    await offers.refresh()
    health.add("runtime", lambda: offers.problem)
    health.add("caches", lambda: "" if manager.is_synced else "first lists are not complete")
    health.ready()
    async with asyncio.TaskGroup() as group:
        group.create_task(offers.run(), name="offers")
        group.create_task(heartbeat.run(), name="heartbeat")
        group.create_task(machine_reconciler.feed.run(), name="feed")
        group.create_task(machine_reconciler.feed.follow(changes_in(channel)), name="changes")
        group.create_task(EventRelay(events, machine_reconciler.relay).run(), name="events")
        group.create_task(manager.run(), name="manager")


def main(arguments: list[str]) -> None:
    """Entry point."""
    settings = load(Settings, arguments, "ferrite core machinepoollet")
    run_service(serve, settings, "machinepoollet", pool=settings.machine_pool_name)


if __name__ == "__main__":
    main(sys.argv[1:])
