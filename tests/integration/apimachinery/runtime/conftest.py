from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.events.v1.event_pb2 import Event
from services.apimachinery.client.interface import Client
from services.apimachinery.server.resource import define
from tests.support.apiserver import TestServer, running_apiserver
from tests.support.etcd import running_etcd


@pytest.fixture(scope="session")
def etcd() -> Iterator[str]:
    with running_etcd() as address:
        yield address


@pytest.fixture
async def server(etcd: str, tmp_path: Path) -> AsyncIterator[TestServer]:
    definitions = [define(kind) for kind in (ConfigMap, Secret, Lease, Event)]
    async with running_apiserver(etcd, tmp_path, definitions) as running:
        yield running


@pytest.fixture(params=["grpc", "rest"])
async def client(request: pytest.FixtureRequest, server: TestServer) -> AsyncIterator[Client]:
    made = server.client(request.param)
    yield made
    await made.close()
