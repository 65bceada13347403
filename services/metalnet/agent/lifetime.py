"""Whether the data plane answers, and whether it still has the state that we gave it.

The data plane names each life of its tables by a uuid. Another uuid than before means that everything has to be made
again; tables without state answer nothing before they are initialized, which is done once per life only, since it drops
all routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client import Counter, Gauge

from services.common.logs import get_logger
from services.metalnet.agent.dataplane import Dataplane, DataplaneError, NotInitialized

log = get_logger(__name__)

LOOK_SECONDS: Final = 1.0
UP = Gauge("ferrite_metalnet_dataplane_up", "1 while the data plane answers.")
LIVES = Counter("ferrite_metalnet_dataplane_lives", "Lives of the data plane's state that were seen.")


class DataplaneLifetime:
    """Where the data plane's tables are in their life; `run` follows them."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._wake = asyncio.Event()
        self._usable = asyncio.Event()
        self._uuid = ""
        self.problem = "the data plane was not asked yet"
        """Why the data plane can't be used; empty while it can."""

    async def usable(self) -> None:
        """Waits until the data plane can be used."""
        await self._usable.wait()

    def suspect(self) -> None:
        """A call failed: have a look at once."""
        self._wake.set()

    async def run(self, begin: Callable[[], Awaitable[None]], changed: Callable[[], None]) -> None:
        """Looks until cancelled. `begin` is called for each life of the tables before anybody uses it, `changed`
        whenever `problem` has changed."""
        while True:
            before = self.problem
            try:
                await self._look(begin)
            except DataplaneError as error:
                self._set(str(error))
            if self.problem != before:
                changed()
            self._wake.clear()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
                # A failing caller wakes us at each attempt; that must not become a busy loop.
                await asyncio.sleep(LOOK_SECONDS / 10)
            except TimeoutError:
                pass

    async def _look(self, begin: Callable[[], Awaitable[None]]) -> None:
        try:
            uuid = await self._dataplane.uuid()
        except NotInitialized:
            self._set("the data plane lost its state")
            uuid = await self._dataplane.initialize()
            log.info("data plane initialized", uuid=uuid)
        if uuid != self._uuid:
            self._set("the data plane's state is being taken over")
            await begin()
            LIVES.inc()
            log.info("data plane taken over", uuid=uuid, before=self._uuid)
            self._uuid = uuid
        self._set("")

    def _set(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem:
            log.warning("data plane became unusable", reason=problem)
            self._usable.clear()
        else:
            log.info("data plane became usable", uuid=self._uuid)
            self._usable.set()
        UP.set(0 if problem else 1)
