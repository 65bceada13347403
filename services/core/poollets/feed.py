"""Notices what changes in a runtime. IRI has no watch, so its list is read again and compared.

Ferrite's own providers tell when (`follow`). Other runtimes are asked: while something is on its way (`hurry`), lists
come quickly and then ever more slowly, so that a state is noticed soon after it is reached; otherwise once a period.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Final, Generic, Protocol, TypeVar

import grpc
from prometheus_client import Counter

from services.apimachinery.client.objects import Key
from services.common.logs import get_logger

log = get_logger(__name__)

PERIOD: Final = 5.0
FIRST_HURRIED: Final = 0.05
PAUSE_AFTER_FAILURE: Final = 1.0
GROWTH: Final = 1.3
GATHERED: Final = 0.01
"""Changes within this time share a list."""
UNTOLD: Final = 60.0
"""Between questions to a runtime that does not tell of changes; another version of it may."""

RELISTS = Counter("ferrite_poollet_relists", "Lists fetched from the runtime.", ["result"])


class _Metadata(Protocol):
    id: str


class Listed(Protocol):
    """An object of the runtime."""

    @property
    def metadata(self) -> _Metadata: ...

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...


L = TypeVar("L", bound=Listed)


class Feed(Generic[L]):
    """Follows the objects of a runtime and calls `wake(key)` when one is new, changed or gone.

    `key_of` tells to which object of the API one belongs; None leaves it alone.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Iterable[L]]],
        key_of: Callable[[L], Key | None],
        wake: Callable[[Key], None],
        period: float = PERIOD,
    ) -> None:
        self._fetch, self._key_of, self._wake_key, self._period = fetch, key_of, wake, period
        self._known: dict[str, tuple[bytes, L]] = {}
        self._by_key: dict[Key, list[L]] = {}
        self._delay = period
        self._woken = asyncio.Event()
        self._told = False
        self._took = 0.0

    def of(self, key: Key) -> list[L]:
        """What belonged to an object of the API when the runtime was last listed."""
        return list(self._by_key.get(key, ()))

    def hurry(self) -> None:
        """Something is about to change: look soon, and again."""
        self._delay = FIRST_HURRIED
        self._woken.set()

    async def follow(self, changes: Callable[[], AsyncIterable[Any]]) -> None:
        """Lists whenever the stream of `changes()` has an item, until cancelled; opens it again when it ends."""
        while True:
            pause = PAUSE_AFTER_FAILURE
            try:
                async for _ in changes():
                    self._told = True
                    self._woken.set()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    pause = UNTOLD
            if self._told:
                self._told = False
                self.hurry()
            await asyncio.sleep(pause)

    async def run(self) -> None:
        """Lists until cancelled; a runtime that can't be reached is asked again and again."""
        while True:
            self._woken.clear()
            started = asyncio.get_running_loop().time()
            try:
                self._compare(await self._fetch())
                self._took = asyncio.get_running_loop().time() - started
                RELISTS.labels("ok").inc()
            except Exception as error:
                log.warning("runtime could not be listed", error=f"{type(error).__name__}: {error}")
                RELISTS.labels("error").inc()
                await asyncio.sleep(PAUSE_AFTER_FAILURE)
            await self._rest()

    async def _rest(self) -> None:
        if self._told:
            self._delay = self._period
        try:
            await asyncio.wait_for(self._woken.wait(), self._delay)
        except TimeoutError:
            self._delay = min(self._period, self._delay * GROWTH)
        else:
            # Told, a long list must not be all we do; else the change was only just asked for and is given a moment.
            await asyncio.sleep(max(GATHERED, self._took) if self._told else FIRST_HURRIED)

    def _compare(self, listed: Iterable[L]) -> None:
        present = {obj.metadata.id: (obj.SerializeToString(deterministic=True), obj) for obj in listed}
        before, self._known = self._known, present
        self._by_key = {}
        for _, obj in present.values():
            key = self._key_of(obj)
            if key is not None:
                self._by_key.setdefault(key, []).append(obj)
        for identity, (encoded, obj) in present.items():
            if identity not in before or before[identity][0] != encoded:
                self._changed(obj)
        for identity in before.keys() - present.keys():
            self._changed(before[identity][1])

    def _changed(self, obj: L) -> None:
        key = self._key_of(obj)
        if key is not None:
            self._wake_key(key)
