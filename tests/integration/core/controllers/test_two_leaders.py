"""Two controller processes that both work, as if a lease had been outlived: still one owner for each address."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from protos.ipam.v1alpha1.prefix_allocation_pb2 import PrefixAllocation
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from services.apimachinery.client.interface import Change
from services.apimachinery.client.objects import is_deleting
from tests.integration.core.apiserver.conftest import CoreServer
from tests.integration.core.controllers.conftest import Controllers, User
from tests.support.eventually import eventually

CHILDREN = 60


@pytest.fixture
def second(server: CoreServer, controllers: Controllers) -> Iterator[Controllers]:
    running = Controllers(server, "second", "--no-leader-elect", "--machine-pool-lifecycle-grace-period=3600")
    running.start()
    yield running
    assert running.stop() == 0


async def watch_owners(user: User, version: str) -> None:
    """Fails as soon as an address has two owners."""
    owned: dict[str, set[object]] = {}
    async for event in user.client.watch(PrefixAllocation, user.token, resource_version=version):
        name, status = event.object.metadata.name, event.object.status
        if event.change is Change.DELETED or status.phase != "Allocated":
            owned.pop(name, None)
            continue
        taken = set(ip_network(status.prefix))
        for other, addresses in owned.items():
            assert other == name or not taken & addresses, f"{status.prefix} belongs to {other} and {name}"
        owned[name] = set(taken)


async def test_an_address_has_one_owner(user: User, second: Controllers) -> None:
    dice, kept = random.Random(1), []
    await user.root("root", "10.0.0.0/25", pool="x")
    version = (await user.client.list(PrefixAllocation, user.token)).resource_version
    watcher = asyncio.create_task(watch_owners(user, version))
    # Both must be at work: the second one has told so once its identity is among the writers.
    await eventually(lambda: "controllers started" in second.log.read_text(), within=30)
    for number in range(CHILDREN):
        selector = {} if dice.random() < 0.5 else {"pool": "x"}
        await user.child(f"c{number}", length=32, parent="" if selector else "root", **selector)
        kept.append(f"c{number}")
        if dice.random() < 0.3:
            await user.client.delete(Prefix, kept.pop(dice.randrange(len(kept))), user.token)

    async def settled() -> bool:
        prefixes = [each for each in (await user.client.list(Prefix, user.token)).items if not is_deleting(each)]
        given = [each for each in prefixes if each.status.phase == "Allocated" and each.metadata.name != "root"]
        root = next(each for each in prefixes if each.metadata.name == "root")
        same = sorted(root.status.used) == sorted(each.spec.prefix for each in given)
        return same and {each.metadata.name for each in given} == set(kept)

    await eventually(settled, within=60, every=0.1)
    assert not watcher.done(), watcher.exception()
    watcher.cancel()
