"""The informer over a real server that is stopped, and an etcd that is compacted, at the wrong moments."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.interface import Client
from services.apimachinery.errors import AlreadyExists, NotFound, Unavailable
from services.apimachinery.runtime.informer import Informer
from services.common.tasks import Backoff
from tests.support.apiserver import TestServer, running_apiserver
from tests.support.eventually import eventually


def config(name: str, data: str = "") -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data={"x": data})


@asynccontextmanager
async def following(client: Client) -> AsyncIterator[tuple[Informer[ConfigMap], dict[str, str]]]:
    """An informer, and what somebody believes who only hears of its changes."""
    informer = Informer(client, ConfigMap, backoff=Backoff(first=0.05, limit=0.2))
    heard: dict[str, str] = {}

    def change(old: ConfigMap | None, new: ConfigMap | None) -> None:
        if new is not None:
            heard[new.metadata.name] = new.metadata.resource_version
        elif old is not None:
            del heard[old.metadata.name]

    informer.on_change(change)
    task = asyncio.create_task(informer.run())
    try:
        await informer.synced()
        yield informer, heard
    finally:
        task.cancel()
        await asyncio.wait([task])


def compact(etcd: str) -> None:
    """Throws away etcd's history up to now."""
    status = _etcd(etcd, "maintenance/status", {})
    try:
        _etcd(etcd, "kv/compaction", {"revision": status["header"]["revision"], "physical": True})
    except urllib.error.HTTPError as error:
        if b"has been compacted" not in error.read():  # nothing was written since the last time
            raise


def _etcd(etcd: str, method: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
    request = urllib.request.Request(f"http://{etcd}/v3/{method}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=5) as answer:
        decoded: dict[str, dict[str, str]] = json.load(answer)
        return decoded


async def versions(client: Client) -> dict[str, str]:
    return {obj.metadata.name: obj.metadata.resource_version for obj in (await client.list(ConfigMap)).items}


async def test_nothing_is_missed_when_the_history_was_compacted_during_an_outage(
    client: Client, server: TestServer, etcd: str
) -> None:
    for name in ("stays", "changes", "goes"):
        await client.create(config(name))
    async with following(client) as (informer, heard):
        await server.stop()
        async with running_apiserver(etcd, server.directory, server.definitions, prefix=server.prefix) as other:
            second = other.client("grpc")
            await second.delete(ConfigMap, "goes", "default")
            await second.patch(ConfigMap, "changes", {"data": {"x": "new"}}, "default")
            await second.create(config("comes"))
            compact(etcd)
            wanted = await versions(second)
            await second.close()
        await server.start()
        await eventually(lambda: heard == wanted, within=15)
        assert {obj.metadata.name: obj.metadata.resource_version for obj in informer.items()} == wanted
        await client.create(config("after"))
        await eventually(lambda: informer.get("after", "default"))


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_mix_of_writes_outages_and_compactions_ends_with_the_servers_state(
    client: Client, server: TestServer, etcd: str, seed: int
) -> None:
    dice = random.Random(seed)
    async with following(client) as (informer, heard):
        for step in range(120):
            name = f"c{dice.randrange(8)}"
            match dice.choices(["create", "change", "delete", "restart", "compact"], [30, 40, 25, 3, 3])[0]:
                case "create":
                    await _tolerant(client.create(config(name)))
                case "change":
                    await _tolerant(client.patch(ConfigMap, name, {"data": {"x": str(step)}}, "default"))
                case "delete":
                    await _tolerant(client.delete(ConfigMap, name, "default"))
                case "restart":
                    await server.stop()
                    await server.start()
                case "compact":
                    compact(etcd)
        wanted = await eventually(lambda: _listed(client), within=10)
        await eventually(lambda: heard == wanted[0], within=15)
        assert {obj.metadata.name: obj.metadata.resource_version for obj in informer.items()} == wanted[0]


async def _listed(client: Client) -> list[dict[str, str]]:
    return [await versions(client)]


async def _tolerant(write: object) -> None:
    try:
        await write  # type: ignore[misc]
    except (AlreadyExists, NotFound, Unavailable):
        pass
