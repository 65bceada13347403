"""`ferrite metalnet apiserver`: a partition's API; rights, tokens and namespaces are those of the core API."""

from __future__ import annotations

import asyncio
import sys

from pydantic import Field

from services.apimachinery.client.connect import ServerSettings, connect
from services.apimachinery.controllers.garbage import collect_garbage
from services.apimachinery.controllers.remote_namespaces import RemoteNamespaces
from services.apimachinery.server.app import ApiServer
from services.apimachinery.server.auth.delegated import DelegatedAuthorizer, DelegatedTokens
from services.apimachinery.server.builtin import EVENT_LIFETIME
from services.apimachinery.server.settings import ApiServerSettings
from services.common.health import Health
from services.common.service import run_service
from services.common.settings import load
from services.metalnet.apiserver.nodes import watch_nodes
from services.metalnet.kinds import definitions
from services.metalnet.model.names import LEASE_NAMESPACE

TITLE = "ferrite-metalnet"


class Settings(ApiServerSettings):
    """The metalnet API server of one partition."""

    etcd_prefix: str = Field("/ferrite/metalnet", description="what all keys of this server start with")
    event_lifetime: int = Field(
        EVENT_LIFETIME, description="seconds that Events are kept after their last write", ge=60
    )
    node_lease_namespace: str = Field(LEASE_NAMESPACE, description="namespace of the leases of the nodes' agents")
    abandon_after: float = Field(
        60.0,
        ge=1,
        description="seconds after which deleted interfaces no longer wait for a node that has no Node object",
    )
    core: ServerSettings | None = Field(
        None, description="the core API server, which knows rights, tokens and namespaces; needless with --insecure"
    )


async def serve(settings: Settings, health: Health) -> None:
    """Serves until cancelled."""
    async with _server(settings).running():
        health.ready()
        await asyncio.Event().wait()


def _server(settings: Settings) -> ApiServer:
    kinds, nodes = (
        definitions(settings.event_lifetime),
        watch_nodes(settings.node_lease_namespace, settings.abandon_after),
    )
    if settings.core is None:
        if not settings.insecure:
            raise ValueError("core.address or core.kubeconfig is required (or --insecure, for tests)")
        return ApiServer(settings, kinds, title=TITLE, tasks=[collect_garbage, nodes])
    core = connect(settings.core, manager="metalnet-apiserver")
    namespaces = RemoteNamespaces(core)
    return ApiServer(
        settings,
        kinds,
        title=TITLE,
        authorizer=lambda resources: DelegatedAuthorizer(core),
        admission=lambda resources: [namespaces],
        tokens=DelegatedTokens(core),
        tasks=[collect_garbage, nodes, namespaces.run],
    )


def main(arguments: list[str]) -> None:
    """Entry point; raises SystemExit."""
    run_service(serve, load(Settings, arguments, "ferrite metalnet apiserver"), "metalnet-apiserver")


if __name__ == "__main__":
    main(sys.argv[1:])
