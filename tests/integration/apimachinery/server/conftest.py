from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.core.v1alpha1.resource_quota_pb2 import ResourceQuota
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.allocation import Index
from services.apimachinery.server.app import ApiServer
from services.apimachinery.server.auth.authorizer import AllowAll
from services.apimachinery.server.builtin import builtin
from services.apimachinery.server.resource import define
from services.apimachinery.server.settings import ApiServerSettings
from services.core.model.hooks import HOOKS
from tests.support.etcd import running_etcd

NUMBERS = 8


class Numbers:
    """Gives each ResourceQuota a number of its own between 1 and NUMBERS, in an annotation."""

    def claims(self, tree: Tree) -> list[str]:
        number = tree["metadata"].get("annotations", {}).get("number")
        return [f"number/{number}"] if number else []

    async def allocate(self, tree: Tree, old: Tree | None, index: Index) -> None:
        notes = tree["metadata"].setdefault("annotations", {})
        if "number" not in notes:
            # The lowest free one, so that racing writers collide.
            taken = await index.taken("number/")
            free = [str(n) for n in range(1, NUMBERS + 1) if str(n) not in taken | {k[7:] for k in index.collided}]
            notes["number"] = free[0] if free else "0"


@dataclass
class Api:
    """The REST door without credentials in the way."""

    server: ApiServer
    session: aiohttp.ClientSession
    base: str = field(default="")

    async def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """Status and JSON of the answer; further keywords are query parameters (`_` for reserved words)."""
        headers = options.pop("headers", {})
        params = {name.rstrip("_"): str(value) for name, value in options.items()}
        async with self.session.request(
            method, f"http://{self.server.rest_address}{path}", json=body, params=params, headers=headers
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        status, tree = await self(method, path, body, **options)
        assert status < 300, (status, tree)
        return tree


@pytest.fixture(scope="session")
def server_etcd() -> Iterator[str]:
    with running_etcd() as address:
        yield address


Make = Callable[[], ApiServer]


@pytest.fixture
def make(server_etcd: str, tmp_path: Path) -> Make:
    """Servers on one prefix, as replicas are."""
    prefix = f"/ft-{secrets.token_hex(6)}"

    def build() -> ApiServer:
        settings = ApiServerSettings.model_construct(
            https_listen="127.0.0.1:0",
            grpc_listen="127.0.0.1:0",
            insecure=True,
            etcd_endpoints=server_etcd,
            etcd_prefix=prefix,
            compaction_interval=0,
        )
        kinds = [*builtin(), define(MachineClass), define(Machine, hooks=HOOKS[Machine])]
        kinds.append(define(ResourceQuota, hooks=HOOKS[ResourceQuota], allocator=Numbers()))
        return ApiServer(settings, kinds, authorizer=lambda resources: AllowAll())

    return build


@pytest.fixture
async def api(make: Make) -> AsyncIterator[Api]:
    async with make().running() as server, aiohttp.ClientSession() as session:
        yield Api(server, session)
