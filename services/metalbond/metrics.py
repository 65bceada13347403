"""What the reflector tells Prometheus, read when it is asked."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from services.common.telemetry_metrics import Family
from services.metalbond.server import Server

MOST_VNIS: Final = 200
"""VNIs with a series of their own, those with the most routes; all others are counted as one, `other`."""

PEERS = Family("gauge", "ferrite_metalbond_peers", "Peers by state; stale: lost, its routes are kept.", ("state",))
SUBSCRIPTIONS = Family("gauge", "ferrite_metalbond_subscriptions", "Subscriptions of all peers.")
ROUTES = Family("gauge", "ferrite_metalbond_routes", "Routes, by VNI for those with the most.", ("vni",))
STALE_ROUTES = Family("gauge", "ferrite_metalbond_stale_routes", "Routes that only lost peers supply.")
PENDING = Family("gauge", "ferrite_metalbond_pending_updates", "Updates that wait for peers to read them.")
ACCEPTED = Family("counter", "ferrite_metalbond_sessions_accepted", "Connections accepted.")
REFUSED = Family("counter", "ferrite_metalbond_sessions_refused", "Connections refused: too many.")
ENDED = Family("counter", "ferrite_metalbond_sessions_ended", "Sessions that ended, by cause.", ("cause",))
UPDATES = Family("counter", "ferrite_metalbond_updates", "Route updates of all sessions.", ("direction",))
BYTES = Family("counter", "ferrite_metalbond_bytes", "Bytes of all sessions.", ("direction",))


class ReflectorCollector(Collector):
    """Reads a server's tables."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """For the Prometheus registry."""
        links, reflector = list(self._server.links.values()), self._server.reflector
        states = Counter(link.session.state.value for link in links)
        states["stale"] = len(reflector.stale)
        yield PEERS.of({(state,): count for state, count in states.items()})
        yield SUBSCRIPTIONS.of({(): sum(len(link.peer.subscriptions) for link in links)})
        yield ROUTES.of(self._routes())
        yield STALE_ROUTES.of({(): sum(peer.route_count for peer in reflector.stale)})
        yield PENDING.of({(): sum(len(link.peer.pending) for link in links)})
        yield from self._counted()

    def _routes(self) -> dict[tuple[str, ...], float]:
        table = self._server.reflector.table
        sizes = {vni: len(table.routes(vni)) for vni in table.vnis}
        largest = heapq.nlargest(MOST_VNIS, sizes.items(), key=lambda each: each[1])
        found: dict[tuple[str, ...], float] = {(str(vni),): size for vni, size in largest}
        if len(sizes) > MOST_VNIS:
            found["other",] = sum(sizes.values()) - sum(found.values())
        return found

    def _counted(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        counters = self._server.counters
        traffic = [link.connection.traffic for link in self._server.links.values()]
        yield ACCEPTED.of({(): counters.sessions_accepted})
        yield REFUSED.of({(): counters.sessions_refused})
        yield ENDED.of({(cause,): count for cause, count in counters.sessions_ended.items()})
        yield UPDATES.of(
            {
                ("in",): counters.updates_in + sum(each.updates_in for each in traffic),
                ("out",): counters.updates_out + sum(each.updates_out for each in traffic),
            }
        )
        yield BYTES.of(
            {
                ("in",): counters.bytes_in + sum(each.bytes_in for each in traffic),
                ("out",): counters.bytes_out + sum(each.bytes_out for each in traffic),
            }
        )
