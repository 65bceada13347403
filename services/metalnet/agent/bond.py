"""What this host announces: the routes of each interface, kept in step with metalbond."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from typing import Final

from services.common.logs import get_logger
from services.metalbond.client import ConnectionState, MetalbondClient, NextHop, Route
from services.metalbond.client import Vni as BondVni
from services.metalnet.model.announcements import Announcement
from services.metalnet.model.overlay import InterfaceId

log = get_logger(__name__)

LOOK_SECONDS: Final = 0.5


class Announcer:
    """Announces per interface and remembers what; `run` follows whether anybody hears it."""

    def __init__(self, client: MetalbondClient) -> None:
        self._client = client
        self._announced: dict[InterfaceId, Set[Announcement]] = {}
        self.connected = False

    @property
    def owners(self) -> frozenset[InterfaceId]:
        """Interfaces with announced routes."""
        return frozenset(self._announced)

    def announce(self, owner: InterfaceId, wanted: Set[Announcement]) -> None:
        """Makes these the owner's announcements: new ones first, so that there is always a next hop."""
        present = self._announced.get(owner, frozenset())
        for announcement in wanted - present:
            self._client.announce(_route(announcement))
        for announcement in present - wanted:
            self._client.withdraw(_route(announcement))
        if wanted:
            self._announced[owner] = wanted
        else:
            self._announced.pop(owner, None)

    def withdraw(self, owner: InterfaceId) -> None:
        """Takes all of the owner's announcements back."""
        self.announce(owner, frozenset())

    async def run(self, changed: Callable[[], None]) -> None:
        """Until cancelled: calls `changed` when the first route reflector is reached or the last one is lost."""
        while True:
            connected = any(server.state is ConnectionState.ESTABLISHED for server in self._client.servers.values())
            if connected != self.connected:
                self.connected = connected
                log.info("route reflectors changed", connected=connected)
                changed()
            await asyncio.sleep(LOOK_SECONDS)


def _route(announcement: Announcement) -> Route:
    return Route(BondVni(announcement.vni), announcement.destination, NextHop(announcement.next_hop))
