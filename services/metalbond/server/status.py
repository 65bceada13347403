"""What the status page shows of a reflector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from services.metalbond.routes import Route, Vni
from services.metalbond.server.hub import Hub
from services.metalbond.wire import decode_route


class HubSource:
    """A reflector's table and sessions."""

    title: Final = "server"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def vnis(self) -> list[Vni]:
        """VNIs that have routes."""
        return sorted(self._hub.reflector.table.vnis)

    def count(self, vni: Vni) -> int:
        """Routes of the VNI."""
        return len(self._hub.reflector.table.routes(vni))

    def routes(self, vni: Vni) -> Iterator[Route]:
        """Routes of the VNI."""
        return map(decode_route, list(self._hub.reflector.table.routes(vni)))

    def peers(self) -> list[dict[str, Any]]:
        """Open sessions, and lost ones whose routes are kept."""
        rows = [
            {
                "name": link.peer.name,
                "state": link.state.value,
                "door": link.door,
                "routes": link.peer.route_count,
                "networks": len(link.peer.followers),
                "pending": link.peer.depth,
                "updates in": link.traffic.updates_in,
                "updates out": link.traffic.updates_out,
            }
            for link in list(self._hub.links.values())
        ]
        rows += [
            {"name": peer.name, "state": "stale", "routes": peer.route_count} for peer in self._hub.reflector.stale
        ]
        return sorted(rows, key=lambda row: str(row["name"]))
