"""Notices what changes in a runtime. IRI has no watch, so its list is read again and compared.

While something is on its way (`hurry`), lists come quickly and then ever more slowly, so that a state is noticed soon
after it is reached; otherwise once a period.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Generic, Protocol, TypeVar

from prometheus_client import Counter

from services.common.logs import get_logger

log = get_logger(__name__)

PERIOD: Final = 5.0
FIRST_HURRIED: Final = 0.05
GROWTH: Final = 1.3

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
    """Calls `changed(object)` for each object of the runtime that is new, changed or gone (then its last state)."""

    def __init__(
        self, fetch: Callable[[], Awaitable[Iterable[L]]], changed: Callable[[L], None], period: float = PERIOD
    ) -> None:
        self._fetch, self._changed, self._period = fetch, changed, period
        self._known: dict[str, tuple[bytes, L]] = {}
        self._delay = period
        self._wake = asyncio.Event()

    def hurry(self) -> None:
        """Something is about to change: look soon."""
        self._delay = FIRST_HURRIED
        self._wake.set()

    async def run(self) -> None:
        """Lists until cancelled; a runtime that can't be reached is asked again after a period."""
        while True:
            try:
                self._compare(await self._fetch())
                RELISTS.labels("ok").inc()
            except Exception as error:
                log.warning("runtime could not be listed", error=f"{type(error).__name__}: {error}")
                RELISTS.labels("error").inc()
                self._delay = max(self._delay, 1.0)
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), self._delay)
            except TimeoutError:
                pass
            self._delay = min(self._period, self._delay * GROWTH)

    def _compare(self, listed: Iterable[L]) -> None:
        present = {obj.metadata.id: (obj.SerializeToString(deterministic=True), obj) for obj in listed}
        before, self._known = self._known, present
        for identity, (encoded, obj) in present.items():
            if identity not in before or before[identity][0] != encoded:
                self._changed(obj)
        for identity in before.keys() - present.keys():
            self._changed(before[identity][1])
