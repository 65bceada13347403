"""Transactions, ranges and watches against a real etcd."""

from __future__ import annotations

import asyncio

import pytest

from services.apimachinery.errors import ApiError, Unavailable
from services.apimachinery.store.etcd import (
    Change,
    Compacted,
    Etcd,
    EtcdSettings,
    GuardChanged,
    Mismatch,
    Taken,
    Write,
)
from tests.support.etcd import etcd_process
from tests.support.eventually import eventually


def key(etcd: Etcd, name: str) -> bytes:
    return f"{etcd.prefix}/core/things/{name}".encode()


def write(etcd: Etcd, name: str, value: bytes | None, expected: int = 0, **rest: object) -> Write:
    touch = f"{etcd.prefix}/revision/core/things".encode()
    return Write(key(etcd, name), value, expected, touch, owner=f"things {name}", **rest)  # type: ignore[arg-type]


async def test_a_write_replaces_only_the_version_it_names(etcd: Etcd) -> None:
    first = await etcd.commit(write(etcd, "a", b"1"))
    with pytest.raises(Mismatch):
        await etcd.commit(write(etcd, "a", b"2"))
    second = await etcd.commit(write(etcd, "a", b"2", first))
    with pytest.raises(Mismatch) as refused:
        await etcd.commit(write(etcd, "a", None, first))
    assert refused.value.current is not None
    assert (refused.value.current.value, refused.value.current.revision) == (b"2", second)
    await etcd.commit(write(etcd, "a", None, second))
    assert (await etcd.get(key(etcd, "a")))[0] is None


async def test_an_index_key_has_one_owner(etcd: Etcd) -> None:
    version = await etcd.commit(write(etcd, "a", b"1", claims=["vni/7"]))
    with pytest.raises(Taken, match="vni/7 is owned by things a"):
        await etcd.commit(write(etcd, "b", b"1", claims=["vni/7"]))
    assert (await etcd.get(key(etcd, "b")))[0] is None, "nothing of a refused transaction is stored"
    await etcd.commit(write(etcd, "a", None, version, releases=["vni/7"]))
    await etcd.commit(write(etcd, "b", b"1", claims=["vni/7"]))


async def test_an_index_key_is_released_by_its_owner_only(etcd: Etcd) -> None:
    await etcd.commit(write(etcd, "a", b"1", claims=["vni/7"]))
    version = await etcd.commit(write(etcd, "b", b"1"))
    await etcd.commit(write(etcd, "b", None, version, releases=["vni/7"]))
    held, _ = await etcd.get(etcd.index_key("vni/7"))
    assert held is not None
    assert held.value == b"things a"


async def test_guards_hold_a_write_back(etcd: Etcd) -> None:
    namespace = await etcd.commit(write(etcd, "namespace", b"1"))
    guards = {key(etcd, "namespace"): namespace}
    await etcd.commit(write(etcd, "a", b"1", guards=guards))
    await etcd.commit(write(etcd, "namespace", b"terminating", namespace))
    with pytest.raises(GuardChanged):
        await etcd.commit(write(etcd, "b", b"1", guards=guards))


async def test_of_many_racing_writers_one_wins(etcd: Etcd) -> None:
    version = await etcd.commit(write(etcd, "a", b"0"))
    racing = [etcd.commit(write(etcd, "a", str(n).encode(), version)) for n in range(32)]
    results = await asyncio.gather(*racing, return_exceptions=True)
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, Mismatch) for result in results) == 31


async def test_ranges_stay_at_their_revision(etcd: Etcd) -> None:
    for n in range(5):
        await etcd.commit(write(etcd, f"k{n}", b"x"))
    prefix = key(etcd, "")
    page = await etcd.range(prefix, limit=2)
    await etcd.commit(write(etcd, "k9", b"late"))
    rest = await etcd.range(prefix, start=page.items[-1].key + b"\0", revision=page.revision)
    names = [kv.key.decode().rpartition("/")[2] for kv in page.items + rest.items]
    assert (names, page.more, page.count) == ([f"k{n}" for n in range(5)], True, 5)
    _, revision = await etcd.get(prefix)
    await etcd.compact(revision)
    with pytest.raises(Compacted):
        await etcd.range(prefix, revision=page.revision)
    with pytest.raises(Compacted):
        async with asyncio.timeout(5):
            await anext(etcd.watch(prefix, page.revision - 1))


async def test_a_watch_outlives_its_etcd() -> None:
    with etcd_process() as process:
        etcd = Etcd("/ft", EtcdSettings((process.address,), deadline=15.0))
        seen: list[Change] = []

        async def follow() -> None:
            async for changes in etcd.watch(key(etcd, ""), 0):
                seen.extend(changes)

        task = asyncio.create_task(follow())
        await etcd.commit(write(etcd, "a", b"1"))
        await eventually(lambda: len(seen) == 1)
        await asyncio.to_thread(process.kill)
        await asyncio.to_thread(process.start)
        await etcd.commit(write(etcd, "b", b"1"))
        await eventually(lambda: [change.key for change in seen] == [key(etcd, "a"), key(etcd, "b")], within=20)
        task.cancel()
        await etcd.close()


async def test_a_dead_etcd_is_an_error_within_the_deadline() -> None:
    etcd = Etcd("/ft", EtcdSettings(("127.0.0.1:1",), deadline=0.3))
    with pytest.raises(ApiError, match="etcd"):
        await etcd.get(b"/ft/x")
    await etcd.close()


async def test_a_full_store_says_so_and_can_still_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_QUOTA_BACKEND_BYTES", str(4 << 20))
    with etcd_process() as process:
        etcd = Etcd("/ft", EtcdSettings((process.address,), deadline=15.0))
        stored = await etcd.commit(write(etcd, "a", b"first"))

        async def write_on() -> None:
            nonlocal stored
            for _ in range(20):
                stored = await etcd.commit(write(etcd, "a", bytes(1 << 20), stored))

        with pytest.raises(Unavailable, match=r"the store is full .*space exceeded"):
            await write_on()
        present, _ = await etcd.get(key(etcd, "a"))
        assert present is not None
        assert present.revision >= stored, "the write that meets the quota is stored although it is refused"
        await etcd.close()


async def test_another_member_is_asked_when_one_is_dead(store_etcd: str) -> None:
    etcd = Etcd("/ft-members", EtcdSettings(("127.0.0.1:1", "127.0.0.1:2", store_etcd), deadline=3.0))
    async with asyncio.timeout(2):
        await etcd.get(b"/ft-members/x")
    await etcd.close()
    again = Etcd("/ft-members", EtcdSettings(("127.0.0.1:1", store_etcd), deadline=3.0))
    present, _ = await again.get(key(again, "a"))
    version = await again.commit(write(again, "a", b"1", present.revision if present else 0))
    await again.commit(write(again, "a", None, version))
    await again.close()


async def test_leased_keys_expire(etcd: Etcd) -> None:
    lease = await etcd.lease(60)
    assert await etcd.lease(60) == lease, "writes of the same minute share a lease"
    await etcd.commit(write(etcd, "a", b"1", lease=lease))


@pytest.mark.parametrize("prefix", ["ferrite", "/ferrite/", ""])
def test_prefixes_are_checked(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Etcd(prefix)
