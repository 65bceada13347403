"""`ferrite core apiserver`: serves the core kinds over REST and gRPC."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from pydantic import Field

from protos.k8s.core.v1.namespace_pb2 import Namespace
from protos.storage.v1alpha1.volume_class_pb2 import VolumeClass
from services.apimachinery.controllers.garbage import collect_garbage
from services.apimachinery.controllers.namespaces import end_namespaces
from services.apimachinery.controllers.start import ensure_at_start
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.admission import Admission, NamespaceLifecycle
from services.apimachinery.server.app import ApiServer
from services.apimachinery.server.auth.rbac import RbacAuthorizer
from services.apimachinery.server.auth.reviews import Reviews
from services.apimachinery.server.builtin import EVENT_LIFETIME, NamespaceDefaults, SigningRequester
from services.apimachinery.server.registry import Resources
from services.apimachinery.server.settings import ApiServerSettings
from services.common.health import Health
from services.common.service import run_service
from services.common.settings import load
from services.core.apiserver.policy import SYSTEM_ROLES
from services.core.kinds import definitions
from services.core.model.admission import MachineVolumeDevices, VolumeExpansion

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease", "ironcore-machinepool-lease")


class Settings(ApiServerSettings):
    """The core API server."""

    etcd_prefix: str = Field("/ferrite/core", description="what all keys of this server start with")
    event_lifetime: int = Field(
        EVENT_LIFETIME, description="seconds that Events are kept after their last write", ge=60
    )


def admission(resources: Resources) -> Sequence[Admission]:
    """The plugins in their order: namespaces first, as in Kubernetes, then the core kinds' own."""

    async def volume_class(name: str) -> Tree | None:
        resource = resources.of(VolumeClass)
        item = await resource.stored.read("", name)
        return resource.tree(item) if item is not None else None

    return [
        NamespaceDefaults(),
        NamespaceLifecycle(resources.of(Namespace).stored),
        SigningRequester(),
        MachineVolumeDevices(),
        VolumeExpansion(volume_class),
    ]


async def serve(settings: Settings, health: Health) -> None:
    """Runs until cancelled."""
    reviews = Reviews()
    server = ApiServer(
        settings,
        [*definitions(settings.event_lifetime), *reviews.definitions()],
        title="ferrite-core",
        authorizer=RbacAuthorizer,
        admission=admission,
        preparations=[ensure_at_start(NAMESPACES, SYSTEM_ROLES)],
        tasks=[collect_garbage, end_namespaces],
    )
    reviews.authorizer = server.authorizer
    async with server.running():
        await server.prepared()
        health.ready()
        await asyncio.Event().wait()


def main(arguments: list[str]) -> None:
    """Entry point; raises SystemExit."""
    run_service(serve, load(Settings, arguments, "ferrite core apiserver"), "core-apiserver")


if __name__ == "__main__":
    main(sys.argv[1:])
