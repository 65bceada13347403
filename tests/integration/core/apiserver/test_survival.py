"""Killed servers and killed etcds: nothing that was acknowledged is lost, clients go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.errors import AlreadyExists, ApiError
from services.apimachinery.runtime.informer import Informer
from tests.integration.core.apiserver.conftest import CoreServer
from tests.support.etcd import EtcdProcess, etcd_process
from tests.support.eventually import eventually
from tests.support.processes import directory


@pytest.fixture
def own_etcd() -> Iterator[EtcdProcess]:
    with etcd_process() as process:
        yield process


@pytest.fixture
def own_core(own_etcd: EtcdProcess) -> Iterator[CoreServer]:
    with directory("core") as place:
        server = CoreServer(own_etcd.address, place)
        server.start()
        yield server
        server.stop()


class Writer:
    """Creates config maps one after the other; remembers which were acknowledged."""

    def __init__(self, core: CoreServer) -> None:
        self.client = GrpcClient(core.grpc, tls=core.admin_tls, deadline=10.0)
        self.acknowledged: list[str] = []

    async def run(self) -> None:
        number = 0
        while True:
            name = f"c{number:05}"
            try:
                await self.client.create(ConfigMap(metadata=ObjectMeta(name=name, namespace="default")))
            except AlreadyExists:
                pass  # its acknowledgement was lost with the server
            except ApiError:
                await asyncio.sleep(0.05)
                continue
            self.acknowledged.append(name)
            number += 1

    async def reach(self, count: int) -> None:
        """Waits until that many are acknowledged."""
        await eventually(lambda: len(self.acknowledged) >= count, within=60)


async def test_kill_9_of_server_and_etcd_loses_no_acknowledged_write(
    own_core: CoreServer, own_etcd: EtcdProcess
) -> None:
    writer = Writer(own_core)
    informer = Informer(GrpcClient(own_core.grpc, tls=own_core.admin_tls), ConfigMap, "default")
    tasks = [asyncio.create_task(writer.run()), asyncio.create_task(informer.run())]
    for what in (own_core, own_etcd, own_core):
        await writer.reach(len(writer.acknowledged) + 50)
        await asyncio.to_thread(what.kill)
        await asyncio.to_thread(what.start)
    await writer.reach(len(writer.acknowledged) + 50)
    tasks[0].cancel()
    with suppress(asyncio.CancelledError):
        await tasks[0]
    found = {item.metadata.name for item in (await writer.client.list(ConfigMap, "default")).items}
    assert set(writer.acknowledged) <= found
    await eventually(lambda: {item.metadata.name for item in informer.items()} == found, within=60)
    tasks[1].cancel()
    await writer.client.close()


async def test_sigterm_ends_open_watches_at_once(own_core: CoreServer) -> None:
    client = GrpcClient(own_core.grpc, tls=own_core.admin_tls)
    informer = Informer(client, ConfigMap, "default")
    task = asyncio.create_task(informer.run())
    await informer.synced()
    started = asyncio.get_running_loop().time()
    assert await asyncio.to_thread(own_core.stop) == 0
    assert asyncio.get_running_loop().time() - started < 3
    await asyncio.to_thread(own_core.start)
    writer = GrpcClient(own_core.grpc, tls=own_core.admin_tls)
    await writer.create(ConfigMap(metadata=ObjectMeta(name="after", namespace="default")))
    await eventually(lambda: informer.get("after", "default"), within=60)
    task.cancel()
    await writer.close()
    await client.close()


async def test_a_server_waits_for_its_etcd(own_core: CoreServer, own_etcd: EtcdProcess) -> None:
    own_core.kill()
    own_etcd.kill()
    starting = asyncio.create_task(asyncio.to_thread(own_core.start))
    await asyncio.sleep(2)
    assert not starting.done()
    await asyncio.to_thread(own_etcd.start)
    await starting
