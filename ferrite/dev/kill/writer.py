"""Applies and deletes objects for as long as the check lasts, and keeps the ledger of what was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from ferrite.dev.kill import objects
from ferrite.dev.kill.ledger import Found, Ledger
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.k8s.core.v1.secret_pb2 import Secret
from protos.networking.v1alpha1.network_pb2 import Network
from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import is_deleting, metadata_of
from services.apimachinery.errors import AlreadyExists, ApiError, NotFound
from services.common.tasks import Backoff

PAUSE_SECONDS: Final = 0.4
KEPT: Final = 6
MACHINE_EVERY: Final = 12
KINDS: Final[dict[str, type[Message]]] = {"Machine": Machine, "Prefix": Prefix, "Network": Network}


@dataclass(frozen=True)
class Refusal:
    """A write that failed: when (seconds since 1970), how long it took to fail, what it was told."""

    when: float
    seconds: float
    error: ApiError


class Writer:
    """`run` writes a little all the time; `create` and `delete` are for others who want it in the ledger as well."""

    def __init__(self, client: Client, nodes: Iterable[str]) -> None:
        self._client = client
        self._nodes = itertools.cycle(nodes)
        self._open = asyncio.Event()
        self._open.set()
        self._busy = 0
        self.ledger = Ledger()
        self.refusals: list[Refusal] = []

    async def run(self) -> None:
        """Creates networks, prefixes and now and then a machine without a guest, and deletes the oldest of them."""
        small: deque[tuple[type[Message], str]] = deque()
        machines: deque[str] = deque()
        for number in itertools.count():
            name = f"w-{number}"
            if number % MACHINE_EVERY == 0:
                await self.create(objects.machine(name, next(self._nodes), power="Off"))
                machines.append(name)
                if len(machines) > 1:
                    await self.delete(Machine, machines.popleft())
            else:
                made = objects.network(name) if number % 2 else objects.prefix(name)
                await self.create(made)
                small.append((type(made), name))
                if len(small) > KEPT:
                    await self.delete(*small.popleft())
            await asyncio.sleep(PAUSE_SECONDS)

    async def create(self, obj: Message) -> None:
        """Tries until the server acknowledges. What an unanswered attempt stored counts as acknowledged when seen."""
        kind, name = type(obj), metadata_of(obj).name
        backoff = Backoff(0.2, 1.0)
        while True:
            async with self._writing():
                try:
                    made = await self._client.create(obj)
                except AlreadyExists:
                    made = await self._client.get(kind, name, objects.NAMESPACE)
                self.ledger.note_created(_key(kind, name), metadata_of(made).uid)
                return
            await asyncio.sleep(backoff.next())

    async def delete(self, kind: type[Message], name: str) -> None:
        """Tries until the server acknowledges."""
        self.ledger.note_deleting(_key(kind, name))
        backoff = Backoff(0.2, 1.0)
        while True:
            async with self._writing():
                with contextlib.suppress(NotFound):
                    await self._client.delete(kind, name, objects.NAMESPACE)
                self.ledger.note_deleted(_key(kind, name))
                return
            await asyncio.sleep(backoff.next())

    async def delete_all(self) -> None:
        """Removes all that was created; call when `run` has been cancelled."""
        for key in list(self.ledger.created):
            kind, _, name = key.partition("/")
            await self.delete(KINDS[kind], name)
        await self.delete(Secret, objects.BALLAST)

    async def lies(self) -> list[str]:
        """What the server has forgotten, while nothing is being written. Raises ApiError."""
        self._open.clear()
        try:
            while self._busy:  # noqa: ASYNC110 - a write lasts as long as its deadline at most
                await asyncio.sleep(0.02)
            found = {}
            for name, kind in KINDS.items():
                for obj in (await self._client.list(kind, objects.NAMESPACE)).items:
                    found[f"{name}/{metadata_of(obj).name}"] = Found(metadata_of(obj).uid, is_deleting(obj))
            return self.ledger.lies(found, KINDS.keys())
        finally:
            self._open.set()

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """One attempt; a refusal is noted and does not go further."""
        await self._open.wait()
        self._busy += 1
        started = time.time()
        try:
            yield
        except ApiError as error:
            self.refusals.append(Refusal(time.time(), time.time() - started, error))
        finally:
            self._busy -= 1


def _key(kind: type[Any], name: str) -> str:
    return f"{kind.DESCRIPTOR.name}/{name}"
