"""What `Client` promises, kept by both transports and by the memory twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.interface import Change, Client, WatchEvent
from services.apimachinery.client.objects import is_deleting
from services.apimachinery.errors import AlreadyExists, ApiError, Conflict, NotFound

SECONDS = 10.0


def config(name: str, namespace: str = "default", **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data=data)


def pool(name: str, provider: str = "one://pool") -> MachinePool:
    made = MachinePool(metadata=ObjectMeta(name=name))
    made.spec.provider_id = provider
    return made


class Watcher:
    """Collects the events of a watch as (change, name)."""

    def __init__(self, events: AsyncIterator[WatchEvent[ConfigMap]]) -> None:
        self._events = events
        self.versions: list[int] = []

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(SECONDS):
            async for event in self._events:
                if event.change is not Change.BOOKMARK:
                    self.versions.append(int(event.object.metadata.resource_version))
                    return event.change.value, event.object.metadata.name
        raise AssertionError("the watch ended")


@asynccontextmanager
async def watching(client: Client, version: str, namespace: str = "") -> AsyncIterator[Watcher]:
    events = client.watch(ConfigMap, namespace, resource_version=version)
    yield Watcher(events)
    await events.aclose()  # type: ignore[attr-defined]


async def test_what_is_created_is_read(any_client: Client) -> None:
    created = await any_client.create(config("a", key="välue"))
    assert created.metadata.uid
    assert created.metadata.resource_version
    assert created.metadata.HasField("creation_timestamp")
    assert await any_client.get(ConfigMap, "a", "default") == created
    assert created.data["key"] == "välue"


async def test_names_are_generated(any_client: Client) -> None:
    prefix = ConfigMap(metadata=ObjectMeta(generate_name="job-", namespace="default"))
    names = {(await any_client.create(prefix)).metadata.name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("job-") and len(name) > 4 for name in names)


Act = Callable[[Client], Awaitable[object]]


async def stale_update(client: Client) -> None:
    read = await client.create(config("b"))
    await client.patch(ConfigMap, "b", {"data": {"x": "1"}}, "default")
    read.data["x"] = "2"
    await client.update(read)


@pytest.mark.parametrize(
    ("act", "error"),
    [
        pytest.param(lambda c: c.get(ConfigMap, "no", "default"), NotFound, id="get what is not there"),
        pytest.param(lambda c: c.update(config("no")), NotFound, id="update what is not there"),
        pytest.param(lambda c: c.delete(ConfigMap, "no", "default"), NotFound, id="delete what is not there"),
        pytest.param(lambda c: c.patch(ConfigMap, "no", {"data": {}}, "default"), NotFound, id="patch it"),
        pytest.param(lambda c: c.create(config("a")), AlreadyExists, id="create what is there"),
        pytest.param(stale_update, Conflict, id="update an old version"),
        pytest.param(
            lambda c: c.patch(
                ConfigMap, "a", {"metadata": {"resourceVersion": "987654"}, "data": {"x": "y"}}, "default"
            ),
            Conflict,
            id="patch an old version",
        ),
        pytest.param(lambda c: c.delete(ConfigMap, "a", "default", uid="other"), Conflict, id="delete another uid"),
    ],
)
async def test_refusals(any_client: Client, act: Act, error: type[ApiError]) -> None:
    before = await any_client.create(config("a"))
    with pytest.raises(error):
        await act(any_client)
    assert await any_client.get(ConfigMap, "a", "default") == before


async def test_update_replaces_all_but_the_status(any_client: Client) -> None:
    created = await any_client.create(pool("p"))
    created.status.state = "Ready"
    created.metadata.labels["a"] = "b"
    updated = await any_client.update(created)
    assert (updated.status.state, dict(updated.metadata.labels)) == ("", {"a": "b"})


async def test_update_status_replaces_the_status_only(any_client: Client) -> None:
    created = await any_client.create(pool("p"))
    created.status.state = "Ready"
    created.spec.provider_id = "two://pool"
    updated = await any_client.update_status(created)
    assert (updated.status.state, updated.spec.provider_id) == ("Ready", "one://pool")
    stale = created
    stale.status.state = "Offline"
    with pytest.raises(Conflict):
        await any_client.update_status(stale)


async def test_merge_patch_of_object_and_status(any_client: Client) -> None:
    await any_client.create(config("a", x="1", y="2"))
    patched = await any_client.patch(ConfigMap, "a", {"data": {"x": None, "z": "3"}}, "default")
    assert dict(patched.data) == {"y": "2", "z": "3"}
    await any_client.create(pool("p"))
    ready = await any_client.patch(MachinePool, "p", {"status": {"state": "Ready"}}, subresource="status")
    assert ready.status.state == "Ready"


async def test_a_write_that_changes_nothing_keeps_the_version(any_client: Client) -> None:
    created = await any_client.create(config("a", x="1"))
    assert await any_client.patch(ConfigMap, "a", {"data": {"x": "1"}}, "default") == created
    assert await any_client.update(created) == created


async def test_finalizers_hold_a_deleted_object(any_client: Client) -> None:
    held = config("a")
    held.metadata.finalizers.append("a.test/hold")
    await any_client.create(held)
    await any_client.delete(ConfigMap, "a", "default")
    deleting = await any_client.get(ConfigMap, "a", "default")
    assert is_deleting(deleting)
    await any_client.delete(ConfigMap, "a", "default")
    deleting.metadata.ClearField("finalizers")
    await any_client.update(deleting)
    with pytest.raises(NotFound):
        await any_client.get(ConfigMap, "a", "default")


async def test_delete_of_the_right_uid(any_client: Client) -> None:
    created = await any_client.create(config("a"))
    await any_client.delete(ConfigMap, "a", "default", uid=created.metadata.uid)
    assert (await any_client.list(ConfigMap)).items == []


async def test_lists_of_one_namespace_and_of_all(any_client: Client) -> None:
    for name, namespace in (("b", "default"), ("a", "default"), ("a", "other")):
        await any_client.create(config(name, namespace))
    await any_client.create(Secret(metadata=ObjectMeta(name="s", namespace="default")))
    everywhere = await any_client.list(ConfigMap)
    assert [(o.metadata.namespace, o.metadata.name) for o in everywhere.items] == [
        ("default", "a"),
        ("default", "b"),
        ("other", "a"),
    ]
    assert [o.metadata.name for o in (await any_client.list(ConfigMap, "other")).items] == ["a"]
    assert (await any_client.list(ConfigMap, "empty")).items == []


async def test_a_watch_goes_on_where_the_list_ended(any_client: Client) -> None:
    await any_client.create(config("before"))
    version = (await any_client.list(ConfigMap)).resource_version
    await any_client.create(config("a"))
    await any_client.create(Secret(metadata=ObjectMeta(name="of-another-kind", namespace="default")))
    async with watching(any_client, version) as watcher:
        assert await watcher.next() == ("ADDED", "a")
        await any_client.patch(ConfigMap, "a", {"data": {"x": "1"}}, "default")
        assert await watcher.next() == ("MODIFIED", "a")
        await any_client.delete(ConfigMap, "a", "default")
        assert await watcher.next() == ("DELETED", "a")
        assert int(version) < watcher.versions[0] < watcher.versions[1] < watcher.versions[2]
    # Any event's version is a place to go on from, that of a deletion too.
    async with watching(any_client, str(watcher.versions[1])) as watcher:
        assert await watcher.next() == ("DELETED", "a")


async def test_a_watch_without_version_begins_with_the_present_state(any_client: Client) -> None:
    await any_client.create(config("a"))
    await any_client.create(config("b", "other"))
    async with watching(any_client, "", "default") as watcher:
        assert await watcher.next() == ("ADDED", "a")
        await any_client.create(config("c", "other"))
        await any_client.create(config("d"))
        assert await watcher.next() == ("ADDED", "d")
