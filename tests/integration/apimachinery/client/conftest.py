from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.secret_pb2 import Secret
from services.apimachinery.client.interface import Client
from services.apimachinery.server.resource import define
from services.core.model.hooks import HOOKS
from tests.support.apiserver import TestServer, running_apiserver
from tests.support.etcd import running_etcd
from tests.support.memory_client import MemoryClient

KINDS = (MachineClass, MachinePool, Lease, ConfigMap, Secret)


@pytest.fixture(scope="session")
def etcd() -> Iterator[str]:
    with running_etcd() as address:
        yield address


@pytest.fixture
async def server(etcd: str, tmp_path: Path) -> AsyncIterator[TestServer]:
    async with running_apiserver(etcd, tmp_path, [define(kind, hooks=HOOKS.get(kind)) for kind in KINDS]) as running:
        yield running


@pytest.fixture(params=["grpc", "rest"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(server: TestServer, transport: str) -> AsyncIterator[Client]:
    made = server.client(transport)
    yield made
    await made.close()


@pytest.fixture(params=["grpc", "rest", "memory"])
async def any_client(request: pytest.FixtureRequest, server: TestServer) -> AsyncIterator[Client]:
    """Both transports to the real server, and the twin that unit tests use in its place."""
    made: Client = MemoryClient() if request.param == "memory" else server.client(request.param)
    yield made
    await made.close()
