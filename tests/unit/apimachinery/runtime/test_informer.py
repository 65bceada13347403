"""The informer over a server that may break at any moment."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.interface import Change
from services.apimachinery.client.objects import Key, key_of
from services.apimachinery.runtime.informer import LISTS, Informer
from services.common.tasks import Backoff
from tests.support.eventually import eventually
from tests.support.memory_client import MemoryClient


def secrets(client: MemoryClient) -> Informer[Secret]:
    return Informer(client, Secret, backoff=Backoff(first=0.001, limit=0.002))


@asynccontextmanager
async def running(informer: Informer[Secret]) -> AsyncIterator[None]:
    task = asyncio.create_task(informer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def secret(name: str, label: str = "") -> Secret:
    return Secret(metadata=ObjectMeta(namespace="default", name=name, labels={"label": label}))


class Follower:
    """What somebody believes who only hears of changes, and which of them did not fit to what was said before."""

    def __init__(self, informer: Informer[Secret]) -> None:
        self.seen: dict[Key, str] = {}
        self.misfits: list[str] = []
        informer.on_change(self._change)

    def _change(self, old: Secret | None, new: Secret | None) -> None:
        key = key_of(new or old or Secret())
        if (old.metadata.uid if old else None) != self.seen.get(key):
            self.misfits.append(f"{key}: told of an old state that was never new")
        if old and new and old.metadata.uid != new.metadata.uid:
            self.misfits.append(f"{key}: two objects as one")
        self.seen.pop(key, None)
        if new is not None:
            self.seen[key] = new.metadata.uid


STEP = st.tuples(
    st.sampled_from(
        [
            "create",
            "update",
            "delete",
            "delete unseen",
            "disconnect",
            "compact",
            "outage",
            "end of outage",
            "yield",
        ]
    ),
    st.sampled_from("abc"),
    st.sampled_from("xy"),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40))
async def test_any_interleaving_ends_with_the_state_of_the_server(steps: list[tuple[str, str, str]]) -> None:
    client = MemoryClient()
    stored = client.server.objects
    informer = secrets(client)
    informer.index("label", lambda obj: [obj.metadata.labels["label"]])
    follower = Follower(informer)
    async with running(informer):
        for what, name, label in steps:
            await take_step(client, what, name, label)
        client.server.reachable = True
        await eventually(
            lambda: (
                sorted(informer.items(), key=key_of)
                == sorted((obj for obj in stored.values() if isinstance(obj, Secret)), key=key_of)
            ),
            within=2,
            every=0.001,
        )
    assert follower.misfits == []
    assert follower.seen == {key: obj.metadata.uid for (_, key), obj in stored.items() if isinstance(obj, Secret)}
    for label in "xy":
        expected = sorted(key_of(obj) for obj in informer.items() if obj.metadata.labels["label"] == label)
        assert [key_of(obj) for obj in informer.by_index("label", label)] == expected


async def take_step(client: MemoryClient, what: str, name: str, label: str) -> None:
    server, slot = client.server, (Secret, Key("default", name))
    if what == "outage":
        server.reachable = False
        server.disconnect()
    elif what == "end of outage":
        server.reachable = True
    elif what == "disconnect":
        server.disconnect()
    elif what == "compact":
        server.compact()
    elif what == "delete unseen" and slot in server.objects:
        # Neither the watch nor a resumed one will tell of it: only a list shows that it is gone.
        server.disconnect()
        server.store(Change.DELETED, copy.deepcopy(server.objects[slot]))
        server.compact()
    elif what == "yield":
        await asyncio.sleep(0.003)
    else:
        reachable, server.reachable = server.reachable, True
        if what == "create" and slot not in server.objects:
            await client.create(secret(name, label))
        elif what == "update" and slot in server.objects:
            await client.patch(Secret, name, {"metadata": {"labels": {"label": label}}}, "default")
        elif what == "delete" and slot in server.objects:
            await client.delete(Secret, name, "default")
        server.reachable = reachable


async def test_a_short_break_is_bridged_without_a_new_list() -> None:
    client = MemoryClient()
    lists = LISTS.labels("secrets")
    informer = secrets(client)
    async with running(informer):
        await informer.synced()
        before = lists._value.get()
        client.server.disconnect()
        await client.create(secret("a"))
        await eventually(lambda: informer.get("a", "default"))
    assert lists._value.get() == before


async def test_readers_may_change_what_they_get() -> None:
    client = MemoryClient()
    await client.create(secret("a"))
    informer = secrets(client)
    async with running(informer):
        await informer.synced()
        got = informer.get("a", "default")
        assert got is not None
        got.metadata.labels["label"] = "scribbled"
        again = informer.get("a", "default")
        assert again is not None
        assert again.metadata.labels["label"] == ""


async def test_a_late_listener_hears_of_all_objects_and_a_failing_one_disturbs_nobody() -> None:
    client = MemoryClient()
    await client.create(secret("a"))
    informer = secrets(client)

    def fails(old: Secret | None, new: Secret | None) -> None:
        raise RuntimeError("can't digest")

    informer.on_change(fails)
    async with running(informer):
        await informer.synced()
        follower = Follower(informer)
        assert list(follower.seen) == [Key("default", "a")]
        await client.create(secret("b"))
        await eventually(lambda: len(follower.seen) == 2)
