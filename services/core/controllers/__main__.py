"""`ferrite core controllers`: schedulers and controllers of the core kinds, in one process that leads or stands by."""

from __future__ import annotations

import sys

from pydantic import Field, field_validator

from services.apimachinery.client.connect import ServerSettings, connect
from services.apimachinery.runtime.leader import LeaderElection
from services.apimachinery.runtime.manager import Manager
from services.common.health import Health
from services.common.logs import get_logger
from services.common.service import run_service
from services.common.settings import ServiceSettings, load
from services.core.controllers.registry import CONTROLLERS, Times, selected

log = get_logger(__name__)


class Settings(ServiceSettings):
    """The core controllers."""

    core: ServerSettings = Field(description="the core API server")
    controllers: str = Field("*", description="comma-separated controllers to run: * for all, -name to leave one out")
    leader_elect: bool = Field(True, description="work only while holding the lease; several processes may run")
    leader_elect_namespace: str = Field("kube-system", description="namespace of the lease")
    leader_elect_name: str = Field("core-controllers", description="name of the lease")
    prefix_allocation_timeout: float = Field(
        1.0, ge=0, description="seconds that a prefix chosen by labels may lack room before another is looked for"
    )
    machine_pool_lifecycle_grace_period: float = Field(
        50.0, gt=0, description="seconds of silence after which a machine pool's readiness is Unknown"
    )

    @field_validator("controllers")
    @classmethod
    def _known(cls, text: str) -> str:
        selected(text)
        return text


async def serve(settings: Settings, health: Health) -> None:
    """Runs until cancelled."""
    client = connect(settings.core, manager="core-controllers")
    leader = None
    if settings.leader_elect:
        leader = LeaderElection(client, settings.leader_elect_name, settings.leader_elect_namespace)
    manager = Manager(client, leader=leader)
    times = Times(settings.prefix_allocation_timeout, settings.machine_pool_lifecycle_grace_period)
    chosen = selected(settings.controllers)
    for name in chosen:
        manager.add(CONTROLLERS[name](manager, times))
    log.info("controllers started", controllers=chosen)
    health.add("informers", lambda: "" if manager.is_synced else "not all lists have arrived")
    health.ready()
    try:
        await manager.run()
    finally:
        await client.close()


def main(arguments: list[str]) -> None:
    """Entry point; raises SystemExit."""
    run_service(serve, load(Settings, arguments, "ferrite core controllers"), "core-controllers")


if __name__ == "__main__":
    main(sys.argv[1:])
