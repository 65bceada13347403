"""Other reflectors: each one follows, at all others, what its own peers follow, and passes that on to them alone.

A route takes one hop between reflectors. A reflector says that it is one and is then told what peers announce, not what
other reflectors pass on; so among any number of them, all of which must know each other, nothing circles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from services.common.logs import get_logger
from services.common.tls import TlsFiles
from services.metalbond.client import MetalbondClient
from services.metalbond.routes import Vni
from services.metalbond.runs import Run
from services.metalbond.server.hub import Hub
from services.metalbond.server.reflector import Peer
from services.metalbond.wire import ProtocolError, RouteFrame, type_of, vni_of

log = get_logger(__name__)

FOLLOW_SECONDS: Final = 0.2  # how often subscriptions of our peers are looked at
AT_ONCE: Final = 2048


class Peering:
    """`servers` are as a `MetalbondClient` takes them. `grace` (s) is how long their routes outlive the loss of a
    reflector. Raises ValueError and OSError as the client does."""

    def __init__(
        self, hub: Hub, servers: Sequence[str], *, keepalive: int, grace: float, tls: TlsFiles | None = None
    ) -> None:
        self._hub = hub
        self._client = MetalbondClient(
            servers, keepalive=keepalive, grace=grace, node=hub.node, tls=tls, reflector=True
        )
        self._source = Peer("reflectors", "reflectors", reflector=True)

    async def run(self) -> None:
        """Follows the others for ever."""
        self._hub.reflector.join(self._source)
        async with self._client, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="metalbond peering follows")
            tasks.create_task(self._pass_on(), name="metalbond peering passes on")

    async def _follow(self) -> None:
        while True:
            wanted = set(self._hub.reflector.followed)
            for vni in self._client.subscriptions - wanted:
                self._client.unsubscribe(vni)
            for vni in wanted - self._client.subscriptions:
                self._client.subscribe(vni)
            await asyncio.sleep(FOLLOW_SECONDS)

    async def _pass_on(self) -> None:
        now = asyncio.get_running_loop().time
        async for added, removed in self._client.batches(AT_ONCE):
            for routes, gone in ((added, False), (removed, True)):
                for (vni, kind), run in groupby(routes, _key):
                    try:
                        self._hub.reflector.apply(self._source, Run(gone, vni, kind, list(run)), now())
                    except ProtocolError as error:
                        log.error("routes of other reflectors left out", reason=str(error), vni=vni)
            self._hub.changed()
            await asyncio.sleep(0)


def _key(route: RouteFrame) -> tuple[Vni, int]:
    return vni_of(route), type_of(route)
