"""One Ceph for all tests, one provider for each module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from tests.integration.ceph_provider.harness import Ceph, Provider, Runtime
from tests.support import processes


@pytest.fixture(scope="session")
def workspace() -> Iterator[Path]:
    with processes.directory("ceph") as directory:
        yield directory


@pytest.fixture(scope="session")
def ceph(workspace: Path) -> Iterator[Ceph]:
    cluster = Ceph(workspace)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def provider(workspace: Path, ceph: Ceph) -> Iterator[Provider]:
    started = Provider(workspace, ceph)
    started.start()
    yield started
    code = started.stop()
    assert code == 0, started.log.read_text()[-4000:]


@pytest_asyncio.fixture
async def runtime(provider: Provider, ceph: Ceph) -> AsyncIterator[Runtime]:
    """What a test makes is gone after it: volumes, images and users."""
    async with grpc.aio.insecure_channel(provider.socket) as channel:
        client = Runtime(channel)
        yield client
        made = await client.list()
        for volume in made:
            await client.delete(volume.metadata.id)
        for volume in made:
            await client.gone(volume.metadata.id)
    assert (ceph.records(), ceph.images(), ceph.users()) == ({}, [], [])
