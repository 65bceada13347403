"""Queue, reconciler, manager and the kill helper, over the memory server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.objects import Key
from services.apimachinery.errors import AlreadyExists, Conflict
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler, Waiting
from services.apimachinery.runtime.schedule import RetryPolicy
from tests.support.copies import Copies, copies_process
from tests.support.eventually import eventually
from tests.support.kills import Reconcile, survives_kills
from tests.support.memory_client import MemoryClient

KEY = Key("default", "s")
QUICK = RetryPolicy(first=0.001, limit=0.01)


class Scripted(Reconciler):
    """Does what the test says, one entry a call; then nothing."""

    def __init__(self, *script: object, workers: int = 1) -> None:
        super().__init__("scripted", workers=workers, retries=QUICK)
        self.script = list(script)
        self.calls: list[Key] = []
        self.waits: list[str] = []
        self.errors: list[str] = []
        self.busy: set[Key] = set()

    async def reconcile(self, key: Key) -> float | None:
        assert key not in self.busy
        self.busy.add(key)
        try:
            self.calls.append(key)
            await asyncio.sleep(0.001)
            step = self.script.pop(0) if self.script else None
            if isinstance(step, BaseException):
                raise step
            assert step is None or isinstance(step, float)
            return step
        finally:
            self.busy.discard(key)

    async def on_waiting(self, key: Key, wait: Waiting) -> None:
        self.waits.append(wait.reason)

    async def on_error(self, key: Key, error: Exception) -> None:
        self.errors.append(str(error))


@asynccontextmanager
async def running(reconciler: Reconciler) -> AsyncIterator[None]:
    task = asyncio.create_task(reconciler.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize(
    ("script", "calls", "waits", "errors"),
    [
        pytest.param([None], 1, [], [], id="done is done"),
        pytest.param([0.001], 2, [], [], id="a number of seconds comes again"),
        pytest.param([Conflict("newer"), AlreadyExists("there")], 3, [], [], id="a newer state is retried silently"),
        pytest.param([RuntimeError("a"), RuntimeError("b")], 3, [], ["a", "b"], id="a failure is told and retried"),
        pytest.param([Waiting("Ready", "NoPool", "add one")], 1, ["NoPool"], [], id="waiting needs another event"),
        pytest.param(
            [Waiting("Ready", "Slow", "", retry_after=0.001)], 2, ["Slow"], [], id="waiting may ask to look again"
        ),
    ],
)
async def test_what_becomes_of_a_key(script: list[object], calls: int, waits: list[str], errors: list[str]) -> None:
    reconciler = Scripted(*script)
    async with running(reconciler):
        reconciler.queue.add(KEY)
        await eventually(lambda: len(reconciler.calls) == calls and reconciler.queue.idle)
        await asyncio.sleep(0.02)  # nothing may follow
    assert (len(reconciler.calls), reconciler.waits, reconciler.errors) == (calls, waits, errors)


async def test_a_condition_that_met_a_newer_state_is_written_at_the_next_try() -> None:
    class Late(Scripted):
        async def on_waiting(self, key: Key, wait: Waiting) -> None:
            await super().on_waiting(key, wait)
            if len(self.waits) == 1:
                raise Conflict("newer")

    reconciler = Late(*[Waiting("Ready", "NoPool", "add one")] * 2)
    async with running(reconciler):
        reconciler.queue.add(KEY)
        await eventually(lambda: len(reconciler.waits) == 2 and reconciler.queue.idle)
    assert reconciler.errors == []


async def test_a_key_is_worked_on_by_one_worker_while_others_go_on() -> None:
    reconciler = Scripted(workers=4)
    keys = [Key("default", name) for name in "abcd"]
    async with running(reconciler):
        for _ in range(50):
            for key in keys:
                reconciler.queue.add(key)
            await asyncio.sleep(0)
        await eventually(lambda: reconciler.queue.idle)
    assert set(reconciler.calls) == set(keys)


async def test_a_key_whose_work_was_cut_off_is_not_lost() -> None:
    reconciler = Scripted()
    async with running(reconciler):
        reconciler.queue.add(KEY)
        await eventually(lambda: reconciler.busy, every=0)
    async with running(reconciler):
        await eventually(lambda: len(reconciler.calls) == 2 and reconciler.queue.idle)


async def test_a_reconcile_that_hangs_is_cut_off_and_retried() -> None:
    class Hangs(Scripted):
        deadline = 0.01

        async def reconcile(self, key: Key) -> float | None:
            self.calls.append(key)
            if len(self.calls) == 1:
                await asyncio.Event().wait()
            return None

    reconciler = Hangs()
    async with running(reconciler):
        reconciler.queue.add(KEY)
        await eventually(lambda: len(reconciler.calls) == 2 and reconciler.queue.idle)


async def test_manager_wakes_reconcilers_by_shared_informers() -> None:
    client = MemoryClient()
    manager = Manager(client)
    manager.add(Copies(manager))
    assert manager.informer(Secret) is manager.informer(Secret)
    task = asyncio.create_task(manager.run())
    await client.create(Secret(metadata=ObjectMeta(namespace="default", name="s")))
    await eventually(lambda: client.get(ConfigMap, "s", "default"))
    assert manager.is_synced
    await client.delete(ConfigMap, "s", "default")
    await eventually(lambda: client.get(ConfigMap, "s", "default"))
    await client.delete(Secret, "s", "default")
    await eventually(lambda: not client.server.objects)
    task.cancel()
    await asyncio.wait([task])


async def test_creating_survives_a_kill_at_each_await() -> None:
    async def world() -> MemoryClient:
        client = MemoryClient()
        await client.create(Secret(metadata=ObjectMeta(namespace="default", name="s")))
        return client

    async def check(client: MemoryClient) -> None:
        assert (ConfigMap, KEY) in client.server.objects

    assert await survives_kills(world, copies_process, check) >= 4


async def test_deleting_survives_a_kill_at_each_await() -> None:
    async def world() -> MemoryClient:
        client = MemoryClient()
        await client.create(Secret(metadata=ObjectMeta(namespace="default", name="s", finalizers=[Copies.FINALIZER])))
        await client.create(ConfigMap(metadata=ObjectMeta(namespace="default", name="s")))
        await client.delete(Secret, "s", "default")
        return client

    async def check(client: MemoryClient) -> None:
        assert not client.server.objects

    assert await survives_kills(world, copies_process, check) >= 4


async def test_the_kill_helper_finds_a_reconciler_that_does_not_converge() -> None:
    async def world() -> list[str]:
        return []

    @asynccontextmanager
    async def process(done: list[str]) -> AsyncIterator[Reconcile]:
        async def reconcile() -> None:
            if "begun" in done:
                return  # taken for finished
            done.append("begun")
            await asyncio.sleep(0)
            done.append("finished")

        yield reconcile

    async def check(done: list[str]) -> None:
        assert "finished" in done

    with pytest.raises(AssertionError, match="killed by SIGTERM at await 1"):
        await survives_kills(world, process, check)
