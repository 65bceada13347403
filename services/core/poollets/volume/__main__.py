"""`ferrite core volumepoollet`: one pool, one VolumeRuntime."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from pydantic import Field

from protos.iri.event.v1alpha1.event_pb2 import Event
from protos.iri.volume.v1alpha1 import volume_pb2 as iri
from protos.iri.volume.v1alpha1 import volume_pb2_grpc as iri_grpc
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.connect import ServerSettings, connect
from services.apimachinery.runtime.manager import Manager
from services.common.health import Health
from services.common.service import run_service
from services.common.settings import ServiceSettings, load
from services.core.model.names import REGION_LABEL, ZONE_LABEL
from services.core.poollets.offers import volume_offers
from services.core.poollets.relay import EventRelay
from services.core.poollets.runtime import VOLUME_SOCKETS, changes_in, runtime_channel, version
from services.core.poollets.volume.pool import PoolReconciler
from services.core.poollets.volume.reconciler import VolumeReconciler


class Settings(ServiceSettings):
    """The pool and both its sides."""

    core: ServerSettings = Field(description="the core API server")
    volume_pool_name: str = Field(description="the VolumePool to run; made if it does not exist")
    provider_id: str = Field(description="its spec.providerID")
    volume_runtime_endpoint: str = Field("", description="unix:/path or host:port; empty = the well-known sockets")
    probe_interval: float = Field(10.0, gt=0, description="seconds between questions to the runtime")
    topology_region_label: str = Field("", description="value of the pool's label topology.ironcore.dev/region")
    topology_zone_label: str = Field("", description="value of the pool's label topology.ironcore.dev/zone")

    def topology(self) -> dict[str, str]:
        """Labels of the pool."""
        labels = {REGION_LABEL: self.topology_region_label, ZONE_LABEL: self.topology_zone_label}
        return {name: value for name, value in labels.items() if value}


async def serve(settings: Settings, health: Health) -> None:
    """Works until cancelled."""
    client = connect(settings.core, manager="volumepoollet")
    channel = await runtime_channel(settings.volume_runtime_endpoint, VOLUME_SOCKETS)
    runtime = iri_grpc.VolumeRuntimeStub(channel)
    runtime_name = await version(runtime.Version, iri.VersionRequest())

    pool = settings.volume_pool_name
    manager = Manager(client)
    volumes = manager.informer(Volume, fields=f"spec.volumePoolRef.name={pool}")
    offers = volume_offers(runtime, settings.probe_interval)
    reconciler = VolumeReconciler(manager, volumes, runtime, runtime_name, offers)
    manager.add(reconciler)
    manager.add(PoolReconciler(manager, pool, settings.provider_id, settings.topology(), volumes, offers))

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
        group.create_task(reconciler.feed.run(), name="feed")
        group.create_task(reconciler.feed.follow(changes_in(channel)), name="changes")
        group.create_task(EventRelay(events, reconciler.relay).run(), name="events")
        group.create_task(manager.run(), name="manager")


def main(arguments: list[str]) -> None:
    """Entry point."""
    settings = load(Settings, arguments, "ferrite core volumepoollet")
    run_service(serve, settings, "volumepoollet", pool=settings.volume_pool_name)


if __name__ == "__main__":
    main(sys.argv[1:])
