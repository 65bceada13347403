"""The feed in simulated time: when it lists, and whom it wakes."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import pairwise
from typing import Any

import grpc.aio
import pytest

from protos.iri.machine.v1alpha1 import machine_pb2 as iri
from services.apimachinery.client.objects import Key
from services.core.poollets.feed import Feed
from services.core.poollets.keys import MACHINE


class Jumping(selectors.DefaultSelector):
    """Instead of waiting, time jumps to where the event loop would wake."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


def simulated(main: Callable[[Callable[[], float]], Coroutine[Any, Any, None]]) -> None:
    """Runs `main(clock)` on a loop whose time is simulated."""
    selector = Jumping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        loop.run_until_complete(main(loop.time))
    finally:
        loop.close()


def machine(identity: str, name: str = "m", state: int = iri.MACHINE_PENDING) -> iri.Machine:
    made = iri.Machine()
    made.metadata.id, made.status.state = identity, state  # type: ignore[assignment]
    made.metadata.labels.update({MACHINE.uid: "u", MACHINE.namespace: "ns", MACHINE.name: name})
    return made


class World:
    """A runtime, the times at which it was listed, and who was woken when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.machines: list[iri.Machine] = []
        self.listed: list[float] = []
        self.woken: list[tuple[float, str]] = []
        self.reachable = True
        self.feed: Feed[iri.Machine] = Feed(
            self.fetch, lambda obj: MACHINE.key(obj.metadata.labels), lambda key: self.woken.append((clock(), key.name))
        )

    async def fetch(self) -> list[iri.Machine]:
        self.listed.append(self.clock())
        if not self.reachable:
            raise ConnectionError("down")
        return list(self.machines)

    async def run(self, seconds: float, changes: Callable[[], AsyncIterator[None]] | None = None) -> None:
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                group.create_task(self.feed.run())
                if changes is not None:
                    group.create_task(self.feed.follow(changes))
        except TimeoutError:
            pass


def test_a_quiet_runtime_is_listed_once_a_period() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        await world.run(21)
        assert world.listed == [0, 5, 10, 15, 20]

    simulated(main)


def test_what_is_new_changed_or_gone_wakes_its_object() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        world.machines = [machine("1", "a"), machine("2", "b"), iri.Machine()]
        loop = asyncio.get_running_loop()
        loop.call_at(7, lambda: world.machines.__setitem__(0, machine("1", "a", iri.MACHINE_RUNNING)))
        loop.call_at(12, lambda: world.machines.pop(1))
        await world.run(21)
        assert world.woken == [(0, "a"), (0, "b"), (10, "a"), (15, "b")]
        assert [found.metadata.id for found in world.feed.of(Key("ns", "a"))] == ["1"]
        assert world.feed.of(Key("ns", "b")) == []

    simulated(main)


def test_in_a_hurry_it_lists_soon_and_then_ever_more_slowly() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        asyncio.get_running_loop().call_at(6, world.feed.hurry)
        await world.run(60)
        after = [when for when in world.listed if when > 6]
        gaps = [round(later - earlier, 6) for earlier, later in pairwise(after)]
        assert after[0] == pytest.approx(6.05)
        assert gaps[0] == pytest.approx(0.05)
        assert gaps == sorted(gaps)
        assert gaps[-1] == pytest.approx(5)

    simulated(main)


@pytest.mark.parametrize("reachable", [True, False])
def test_no_hurry_makes_it_a_hot_loop(reachable: bool) -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        world.reachable = reachable

        async def fetch_in_a_hurry() -> list[iri.Machine]:
            world.feed.hurry()
            return await world.fetch()

        world.feed._fetch = fetch_in_a_hurry
        await world.run(10)
        assert len(world.listed) <= (201 if reachable else 11)

    simulated(main)


def test_an_unreachable_runtime_is_asked_again_and_nothing_counts_as_gone() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        world.machines = [machine("1", "a")]
        loop = asyncio.get_running_loop()
        loop.call_at(1, lambda: setattr(world, "reachable", False))
        loop.call_at(30, lambda: setattr(world, "reachable", True))
        await world.run(60)
        assert world.woken == [(0, "a")]
        assert max(later - earlier for earlier, later in pairwise(world.listed)) <= 6

    simulated(main)


def failed(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


def test_a_runtime_that_tells_of_changes_is_listed_at_each_and_otherwise_left_alone() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)

        async def changes() -> AsyncIterator[None]:
            yield
            for _ in range(2):
                await asyncio.sleep(7)
                world.feed.hurry()  # what was asked for makes the change that is told of
                yield
            await asyncio.Event().wait()

        await world.run(20, changes)
        assert world.listed == pytest.approx([0, 0.01, 5.01, 7.01, 12.01, 14.01, 19.01])

    simulated(main)


def test_a_burst_of_changes_is_not_all_that_is_done() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)

        async def slowly() -> list[iri.Machine]:
            await asyncio.sleep(0.5)
            return await world.fetch()

        async def changes() -> AsyncIterator[None]:
            while True:
                yield
                await asyncio.sleep(0.001)

        world.feed._fetch = slowly
        await world.run(10.1, changes)
        assert len(world.listed) == 10

    simulated(main)


@pytest.mark.parametrize(
    ("code", "opened"),
    [
        pytest.param(grpc.StatusCode.UNIMPLEMENTED, [0, 60], id="does not tell: asked seldom whether it does"),
        pytest.param(grpc.StatusCode.UNAVAILABLE, list(range(100)), id="is away: opened again soon"),
    ],
)
def test_a_runtime_that_does_not_tell_is_asked_in_a_hurry(code: grpc.StatusCode, opened: list[float]) -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        tries: list[float] = []

        async def changes() -> AsyncIterator[None]:
            tries.append(clock())
            raise failed(code)
            yield

        asyncio.get_running_loop().call_at(6, world.feed.hurry)
        await world.run(99.5, changes)
        assert tries == pytest.approx(opened)
        assert len([when for when in world.listed if 6 < when < 7]) > 5

    simulated(main)


def test_when_the_stream_breaks_the_runtime_is_asked_again() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)

        async def changes() -> AsyncIterator[None]:
            if clock() > 6:
                raise failed(grpc.StatusCode.UNAVAILABLE)
            yield
            await asyncio.sleep(6)

        await world.run(8, changes)
        assert len([when for when in world.listed if 6 <= when < 7]) > 5

    simulated(main)
