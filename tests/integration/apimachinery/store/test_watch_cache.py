"""The watch cache on a real etcd: lists, resumed watches, gaps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.apimachinery.errors import Gone, Timeout
from services.apimachinery.store import watch_cache
from services.apimachinery.store.etcd import Etcd, Write
from services.apimachinery.store.watch_cache import Item, WatchCache, Watcher


class Things:
    """A resource with a cache."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.prefix = f"{etcd.prefix}/core/things/".encode()
        self.touch = f"{etcd.prefix}/revision/core/things".encode()
        self.cache = self.another_cache()

    def another_cache(self) -> WatchCache:
        return WatchCache(self.etcd, self.prefix, self.touch)

    async def put(self, name: str, value: bytes | None) -> int:
        key = self.prefix + name.encode()
        present, _ = await self.etcd.get(key)
        return await self.etcd.commit(Write(key, value, present.revision if present else 0, self.touch))


@pytest.fixture
async def things(etcd: Etcd) -> AsyncIterator[Things]:
    made = Things(etcd)
    task = asyncio.create_task(made.cache.run())
    yield made
    task.cancel()


def names(cache: WatchCache, prefix: str = "") -> list[str]:
    return [item.name for item in cache.select(prefix)]


async def take(watcher: Watcher) -> list[tuple[str, str, bytes]]:
    events, _ = await watcher.take(5)
    return [(event.type, event.item.name, event.item.value) for event in events]


async def test_a_fresh_list_has_what_was_written_before(things: Things) -> None:
    for n in range(20):
        await things.put(f"ns/{n:02}", b"x")
        await things.cache.fresh()
        assert len(things.cache) == n + 1
    await things.put("ns/03", None)
    await things.put("other/1", b"x")
    await things.cache.fresh()
    assert names(things.cache, "ns/") == [f"ns/{n:02}" for n in range(20) if n != 3]


async def test_versions_of_the_future_are_refused(things: Things) -> None:
    await things.cache.loaded()
    with pytest.raises(Timeout, match="Too large resource version"):
        await things.cache.wait(10**9)


async def test_replicas_of_expiring_objects_agree_on_versions(things: Things) -> None:
    """A version that one replica gave out is not the future for another one that has seen no change since."""
    await things.put("a", b"1")
    first, second = (WatchCache(things.etcd, things.prefix, things.touch, expires=True) for _ in range(2))
    tasks = [asyncio.create_task(second.run())]
    await second.ready()
    await things.etcd.commit(Write(things.etcd.index_key("elsewhere"), b"", 0, things.etcd.index_key("t")))
    tasks.append(asyncio.create_task(first.run()))
    await first.ready()
    assert first.revision > second.revision
    await second.wait(first.revision)
    for task in tasks:
        task.cancel()


async def test_selectors_decide_what_a_watcher_sees(things: Things) -> None:
    def red(item: Item) -> bool:
        return item.value == b"red"

    version = await things.cache.fresh()
    watcher = things.cache.watch("ns/", red, version)
    for name, value in (("ns/a", b"blue"), ("ns/a", b"red"), ("ns/a", b"red"), ("ns/a", b"blue"), ("ns/b", b"red")):
        last = await things.put(name, value)
    await things.put("other/c", b"red")
    await things.put("ns/b", None)
    await things.cache.fresh()
    assert await take(watcher) == [
        ("ADDED", "ns/a", b"red"),
        ("MODIFIED", "ns/a", b"red"),
        ("DELETED", "ns/a", b"red"),
        ("ADDED", "ns/b", b"red"),
        ("DELETED", "ns/b", b"red"),
    ]
    resumed = things.cache.watch("ns/", red, last)
    assert await take(resumed) == [("DELETED", "ns/b", b"red")]


async def test_history_ends_somewhere(things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_cache, "HISTORY", 3)
    versions = [await things.put("a", str(n).encode()) for n in range(6)]
    await things.cache.fresh()
    with pytest.raises(Gone):
        things.cache.watch("", None, versions[0])
    assert len(await take(things.cache.watch("", None, versions[2]))) == 3


async def test_a_slow_watcher_is_ended_not_served_with_gaps(things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_cache, "QUEUE", 2)
    watcher = things.cache.watch("", None, await things.cache.fresh())
    for n in range(3):
        await things.put(str(n), b"x")
    await things.cache.fresh()
    assert watcher.lost
    assert await take(watcher) == []


async def test_a_new_server_resumes_watches_where_nothing_was_missed(things: Things) -> None:
    last = await things.put("a", b"1")
    await things.etcd.commit(Write(things.etcd.index_key("elsewhere"), b"", 0, things.etcd.index_key("t")))
    second = things.another_cache()
    task = asyncio.create_task(second.run())
    await second.ready()
    watcher = second.watch("", None, last)
    with pytest.raises(Gone):
        second.watch("", None, last - 1)
    await things.put("a", b"2")
    assert await take(watcher) == [("MODIFIED", "a", b"2")]
    task.cancel()


async def test_a_compacted_gap_is_filled_by_the_difference(things: Things) -> None:
    """What etcd does after a long partition: the position is compacted, the cache loads again."""
    for name in ("kept", "changed", "gone"):
        await things.put(name, b"1")
    cache = things.another_cache()
    first = asyncio.create_task(cache.run())
    await cache.fresh()
    first.cancel()
    watcher = cache.watch("", None, cache.revision)
    await things.put("changed", b"2")
    await things.put("gone", None)
    await things.etcd.compact(await things.put("new", b"1"))
    second = asyncio.create_task(cache.run())
    seen: list[tuple[str, str, bytes]] = []
    async with asyncio.timeout(10):
        while len(seen) < 3:
            seen += await take(watcher)
    assert sorted(seen) == [("ADDED", "new", b"1"), ("DELETED", "gone", b"1"), ("MODIFIED", "changed", b"2")]
    second.cancel()
