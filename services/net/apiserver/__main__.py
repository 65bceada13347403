"""`ferrite net apiserver`: serves core.apinet.ironcore.dev; rights, tokens and namespaces are those of the core API."""

from __future__ import annotations

import asyncio
import sys

from pydantic import Field, model_validator

from services.apimachinery.client.connect import ServerSettings, connect
from services.apimachinery.controllers.garbage import collect_garbage
from services.apimachinery.controllers.remote_namespaces import RemoteNamespaces
from services.apimachinery.server.app import ApiServer
from services.apimachinery.server.auth.delegated import DelegatedAuthorizer, DelegatedTokens
from services.apimachinery.server.settings import ApiServerSettings
from services.common.health import Health
from services.common.service import run_service
from services.common.settings import load
from services.net.kinds import definitions
from services.net.model.vni import DEFAULT_MAX, DEFAULT_MIN


class Settings(ApiServerSettings):
    """The net API server."""

    core: ServerSettings = Field(description="the core API server, which knows rights, tokens and namespaces")
    min_vni: int = Field(DEFAULT_MIN, description="lowest network number to give out", ge=1, le=DEFAULT_MAX)
    max_vni: int = Field(DEFAULT_MAX, description="highest network number to give out", ge=1, le=DEFAULT_MAX)

    @model_validator(mode="after")
    def _range(self) -> Settings:
        if self.min_vni >= self.max_vni:
            raise ValueError(f"min-vni {self.min_vni} must be less than max-vni {self.max_vni}")
        return self


async def serve(settings: Settings, health: Health) -> None:
    """Serves until cancelled."""
    core = connect(settings.core, manager="net-apiserver")
    namespaces = RemoteNamespaces(core)
    server = ApiServer(
        settings,
        definitions(settings.min_vni, settings.max_vni),
        title="ferrite-net",
        authorizer=lambda resources: DelegatedAuthorizer(core),
        admission=lambda resources: [namespaces],
        tokens=DelegatedTokens(core),
        tasks=[collect_garbage, namespaces.run],
    )
    async with server.running():
        health.ready()
        await asyncio.Event().wait()


def main(arguments: list[str]) -> None:
    """Entry point."""
    run_service(serve, load(Settings, arguments, "ferrite net apiserver"), "net-apiserver")


if __name__ == "__main__":
    main(sys.argv[1:])
