"""One core API server for all tests, net's and metalnet's for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.core.apiserver.conftest import CoreServer
from tests.integration.net.stack import Stack, running_stack
from tests.support.etcd import running_etcd
from tests.support.processes import directory


@pytest.fixture(scope="session")
def core_server() -> Iterator[CoreServer]:
    with running_etcd() as etcd, directory("net") as place:
        running = CoreServer(etcd, place)
        running.start()
        yield running
        running.stop()


@pytest.fixture
async def stack(core_server: CoreServer) -> AsyncIterator[Stack]:
    async with running_stack(core_server) as running:
        yield running


@pytest.fixture
async def narrow(core_server: CoreServer) -> AsyncIterator[Stack]:
    """Net gives out 41 numbers only, among them the public one."""
    async with running_stack(core_server, "--min-vni=80", "--max-vni=120") as running:
        yield running
