"""Leader election: of several processes with the same task only one works. Rules in `election.py`.

leader = LeaderElection(client, "core-controllers", namespace="ferrite-system", identity=hostname)
await leader.run(work)          # work() runs while this process leads, and is cancelled when it no longer does
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable

from prometheus_client import Gauge

from protos.k8s.coordination.v1.lease_pb2 import Lease, LeaseSpec
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.interface import Client
from services.apimachinery.errors import AlreadyExists, ApiError, Conflict, NotFound
from services.apimachinery.runtime.election import Election, Record, Timing
from services.apimachinery.runtime.times import micro_time, unix_seconds
from services.common.logs import get_logger

log = get_logger(__name__)

LEADING = Gauge("ferrite_leader", "1 while this process leads.", ["lease"])


def process_identity() -> str:
    """Host name and a part that no other process, nor a later one with our pid, has."""
    return f"{socket.gethostname()}_{os.getpid()}_{random.getrandbits(32):08x}"


class LeaderElection:
    """A candidate for one Lease (coordination.k8s.io/v1)."""

    def __init__(
        self, client: Client, name: str, namespace: str, *, identity: str = "", timing: Timing | None = None
    ) -> None:
        self._client = client
        self._name, self._namespace = name, namespace
        self._timing = timing or Timing()
        self._election = Election(identity or process_identity(), self._timing)

    @property
    def identity(self) -> str:
        """What stands in the lease's holderIdentity."""
        return self._election.identity

    @property
    def is_leader(self) -> bool:
        """Whether this process may act as leader right now."""
        return self._election.leads(_now())

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` while leading, again and again, until it returns, raises or this is cancelled.

        When the lease can't be renewed in time `work` is cancelled, before anybody else may begin. The lease is given
        back at the end.
        """
        while True:
            await self._acquire()
            log.info("leadership gained", lease=self._name, identity=self.identity)
            LEADING.labels(self._name).set(1)
            task = asyncio.ensure_future(work())
            try:
                if await self._renew_while_running(task):
                    return
                log.warning("leadership lost", lease=self._name, holder=self._election.holder)
            finally:
                task.cancel()
                await asyncio.wait([task])
                LEADING.labels(self._name).set(0)
                await self._release()

    async def _acquire(self) -> None:
        while not self._election.leads(_now()):
            if not await self._try(self._timing.renew_deadline):
                # Candidates that started together must not stay in step.
                await asyncio.sleep(self._timing.retry * random.uniform(1.0, 1.2))

    async def _renew_while_running(self, task: asyncio.Future[None]) -> bool:
        """True when the task has ended by itself (its exception is raised), False when leadership is lost."""
        while (until := self._election.leads_until()) is not None and (left := until - _now()) > 0:
            await asyncio.wait([task], timeout=min(self._timing.retry, left))
            if task.done():
                task.result()
                return True
            left = until - _now()
            if left > 0:
                await self._try(left)
        return False

    async def _try(self, seconds: float) -> bool:
        """One attempt to take or renew the lease; False when it did not work out."""
        try:
            async with asyncio.timeout(seconds):
                return await self._read_and_claim()
        except (Conflict, AlreadyExists):
            return False  # another candidate was faster; the next look tells who
        except (ApiError, TimeoutError) as error:
            log.warning("lease was not renewed", lease=self._name, error=f"{type(error).__name__}: {error}")
            return False

    async def _read_and_claim(self) -> bool:
        lease = await self._read()
        sent_at = _now()
        self._election.observe(_record(lease) if lease else None, sent_at)
        record = self._election.claim(sent_at, time.time())
        if record is None:
            return False
        await self._write(lease, record)
        self._election.written(record, sent_at)
        return True

    async def _read(self) -> Lease | None:
        try:
            return await self._client.get(Lease, self._name, self._namespace)
        except NotFound:
            return None

    async def _write(self, lease: Lease | None, record: Record) -> None:
        if lease is None:
            metadata = ObjectMeta(name=self._name, namespace=self._namespace)
            await self._client.create(Lease(metadata=metadata, spec=_spec(record)))
            return
        lease.spec.MergeFrom(_spec(record))
        await self._client.update(lease)

    async def _release(self) -> None:
        """Best effort: if it fails, the others wait for the lease to run out."""
        try:
            async with asyncio.timeout(self._timing.retry):
                lease = await self._read()
                self._election.observe(_record(lease) if lease else None, _now())
                record = self._election.release(time.time())
                if lease is not None and record is not None:
                    await self._write(lease, record)
                    self._election.observe(record, _now())
        except (ApiError, TimeoutError) as error:
            log.warning("lease was not released", lease=self._name, error=f"{type(error).__name__}: {error}")


def _record(lease: Lease) -> Record:
    spec = lease.spec
    return Record(
        holder=spec.holder_identity,
        lease=float(spec.lease_duration_seconds),
        acquired=unix_seconds(spec.acquire_time),
        renewed=unix_seconds(spec.renew_time),
        transitions=spec.lease_transitions,
    )


def _spec(record: Record) -> LeaseSpec:
    return LeaseSpec(
        holder_identity=record.holder,
        lease_duration_seconds=max(1, round(record.lease)),
        acquire_time=micro_time(record.acquired),
        renew_time=micro_time(record.renewed),
        lease_transitions=record.transitions,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
