"""Leader election and the event recorder over the memory server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from protos.k8s.coordination.v1.lease_pb2 import Lease
from services.apimachinery.runtime.election import Timing
from services.apimachinery.runtime.leader import LeaderElection
from tests.support.eventually import eventually
from tests.support.memory_client import MemoryClient, MemoryServer

TIMING = Timing(lease=1.0, renew_deadline=0.4, retry=0.05)


class Candidate:
    def __init__(self, server: MemoryServer, identity: str) -> None:
        self.own = MemoryClient(server)
        self.election = LeaderElection(self.own, "lock", "default", identity=identity, timing=TIMING)
        self.working = False
        self.terms = 0

    async def work(self) -> None:
        self.working, self.terms = True, self.terms + 1
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False


@asynccontextmanager
async def running(*candidates: Candidate) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(candidate.election.run(candidate.work)) for candidate in candidates]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_one_of_many_works_and_another_takes_over_at_once_when_it_ends() -> None:
    server = MemoryServer()
    candidates = [Candidate(server, f"c{number}") for number in range(3)]
    async with running(*candidates) as tasks:
        await eventually(lambda: any(candidate.working for candidate in candidates))
        (leader,) = [number for number, candidate in enumerate(candidates) if candidate.working]
        assert candidates[leader].election.is_leader
        tasks[leader].cancel()
        await asyncio.wait([tasks[leader]])
        assert not candidates[leader].working
        assert not candidates[leader].election.is_leader
        # Given back, so that nobody waits for the lease to run out.
        await eventually(lambda: sum(candidate.working for candidate in candidates) == 1, within=0.5)
    lease = await MemoryClient(server).get(Lease, "lock", "default")
    assert lease.spec.holder_identity == ""
    assert lease.spec.lease_transitions >= 1


async def test_a_leader_that_can_not_renew_stops_before_another_starts() -> None:
    server = MemoryServer()
    first, second = Candidate(server, "first"), Candidate(server, "second")
    async with running(first):
        await eventually(lambda: first.working)
        async with running(second):
            server.reachable = False
            await eventually(lambda: not first.working, within=2)
            assert not second.working
            server.reachable = True
            await eventually(lambda: first.working or second.working, within=3)
            assert first.working + second.working == 1


async def test_work_that_ends_ends_the_election() -> None:
    client = MemoryClient()
    election = LeaderElection(client, "lock", "default", timing=TIMING)

    async def fails() -> None:
        raise RuntimeError("broken")

    async def done() -> None:
        pass

    await election.run(done)
    with pytest.raises(RuntimeError, match="broken"):
        await election.run(fails)
    assert (await client.get(Lease, "lock", "default")).spec.holder_identity == ""
