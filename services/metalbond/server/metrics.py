"""What the reflector tells Prometheus, read when it is asked."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from services.common.telemetry_metrics import Family
from services.metalbond.connection import Traffic
from services.metalbond.routes import NextHopType
from services.metalbond.server.hub import LATENCY_BOUNDS, Hub

MOST_VNIS: Final = 200
"""VNIs with a series of their own, those with the most routes; all others are counted as one, `other`."""

PEERS = Family("gauge", "ferrite_metalbond_peers", "Peers by state; stale: lost, its routes are kept.", ("state",))
SUBSCRIPTIONS = Family("gauge", "ferrite_metalbond_subscriptions", "Subscriptions of all peers.")
ROUTES = Family("gauge", "ferrite_metalbond_routes", "Routes, by VNI for those with the most.", ("vni", "type"))
STALE_ROUTES = Family("gauge", "ferrite_metalbond_stale_routes", "Routes that only lost peers supply.")
PENDING = Family("gauge", "ferrite_metalbond_pending_updates", "Updates that wait for peers to read them.")
ACCEPTED = Family("counter", "ferrite_metalbond_sessions_accepted", "Sessions begun.", ("door",))
REFUSED = Family("counter", "ferrite_metalbond_sessions_refused", "Sessions refused, by reason.", ("reason",))
ENDED = Family("counter", "ferrite_metalbond_sessions_ended", "Sessions that ended, by cause.", ("cause",))
NOT_ALLOWED = Family(
    "counter", "ferrite_metalbond_not_allowed", "Announcements and subscriptions that the policy forbids.", ("what",)
)
UPDATES = Family("counter", "ferrite_metalbond_updates", "Route updates of all sessions.", ("direction",))
BYTES = Family("counter", "ferrite_metalbond_bytes", "Bytes of all sessions.", ("direction",))
CONVERGENCE = Family(
    "histogram",
    "ferrite_metalbond_convergence_seconds",
    "From the arrival of a change to its handing over to a peer that had read all before it, by change and peer.",
)


class ReflectorCollector(Collector):
    """Reads a hub's tables."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily]:
        """For the Prometheus registry."""
        links, reflector = list(self._hub.links.values()), self._hub.reflector
        states = Counter(link.state.value for link in links)
        states["stale"] = len(reflector.stale)
        yield PEERS.of({(state,): count for state, count in states.items()})
        yield SUBSCRIPTIONS.of({(): sum(len(link.peer.followers) for link in links)})
        yield ROUTES.of(self._routes())
        yield STALE_ROUTES.of({(): sum(peer.route_count for peer in reflector.stale)})
        yield PENDING.of({(): sum(link.peer.depth for link in links)})
        yield from self._counted()
        latencies = self._hub.latencies
        yield CONVERGENCE.counted(LATENCY_BOUNDS, {(): (latencies.counts, latencies.total)})

    def _routes(self) -> dict[tuple[str, ...], float]:
        reflector = self._hub.reflector
        sizes = {vni: len(reflector.table.routes(vni)) for vni in reflector.table.vnis}
        largest = heapq.nlargest(MOST_VNIS, sizes, key=lambda vni: sizes[vni])
        found: Counter[tuple[str, ...]] = Counter()
        for vnis, name in ((largest, None), (sizes.keys() - set(largest), "other")):
            for vni in vnis:
                special = reflector.types.get(vni, Counter())
                found[name or str(vni), _type(NextHopType.STANDARD)] += sizes[vni] - special.total()
                for kind, count in special.items():
                    found[name or str(vni), _type(kind)] += count
        return dict(found)

    def _counted(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        counters, traffic = self._hub.counters, Traffic()
        traffic.include(counters.traffic)
        for link in self._hub.links.values():
            traffic.include(link.traffic)
        yield ACCEPTED.of({(door,): count for door, count in counters.sessions_accepted.items()})
        yield REFUSED.of({(reason,): count for reason, count in counters.sessions_refused.items()})
        yield ENDED.of({(cause,): count for cause, count in counters.sessions_ended.items()})
        yield NOT_ALLOWED.of({(what,): count for what, count in counters.not_allowed.items()})
        yield UPDATES.of({("in",): traffic.updates_in, ("out",): traffic.updates_out})
        yield BYTES.of({("in",): traffic.bytes_in, ("out",): traffic.bytes_out})


def _type(kind: int) -> str:
    return NextHopType(kind).name.lower() if kind in tuple(NextHopType) else "other"
