"""What a client tells Prometheus, read when it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from services.common.telemetry_metrics import Family
from services.metalbond.client import MetalbondClient

SERVERS: Final = Family(
    "gauge", "ferrite_metalbond_client_servers", "Servers by state of the session and its door.", ("state", "door")
)
LEARNED: Final = Family(
    "gauge", "ferrite_metalbond_client_routes", "Routes of all sessions: one of two servers counts twice."
)
ANNOUNCED: Final = Family("gauge", "ferrite_metalbond_client_announced", "Routes that the client announces.")
SUBSCRIBED: Final = Family("gauge", "ferrite_metalbond_client_subscriptions", "VNIs that the client follows.")
PENDING: Final = Family(
    "gauge", "ferrite_metalbond_client_pending_updates", "Announcements that servers have yet to be told."
)
SESSIONS: Final = Family("counter", "ferrite_metalbond_client_sessions", "Sessions that were established.", ("door",))
FALLBACKS: Final = Family(
    "counter", "ferrite_metalbond_client_fallbacks", "Sessions by TCP since the gRPC door was shut."
)
ENDED: Final = Family(
    "counter", "ferrite_metalbond_client_sessions_ended", "Sessions and attempts that ended, by cause.", ("cause",)
)
UPDATES: Final = Family("counter", "ferrite_metalbond_client_updates", "Route updates of all sessions.", ("direction",))
BYTES: Final = Family("counter", "ferrite_metalbond_client_bytes", "Bytes of all sessions.", ("direction",))


class ClientCollector(Collector):
    """Reads a client's state."""

    def __init__(self, client: MetalbondClient) -> None:
        self._client = client

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """For the Prometheus registry."""
        servers = self._client.servers
        states = Counter((status.state.name.lower(), status.door) for status in servers.values())
        yield SERVERS.of(dict(states.items()))
        yield LEARNED.of({(): sum(status.routes for status in servers.values())})
        yield ANNOUNCED.of({(): len(self._client.announced)})
        yield SUBSCRIBED.of({(): len(self._client.subscriptions)})
        yield PENDING.of({(): sum(status.pending for status in servers.values())})
        sessions: Counter[str] = sum((status.ends.sessions for status in servers.values()), Counter())
        yield SESSIONS.of({(door,): count for door, count in sessions.items()})
        yield FALLBACKS.of({(): sum(status.ends.fallbacks for status in servers.values())})
        ended: Counter[str] = sum((status.ends.ended for status in servers.values()), Counter())
        yield ENDED.of({(cause,): count for cause, count in ended.items()})
        traffic = [status.traffic for status in servers.values()]
        yield UPDATES.of({("in",): sum(t.updates_in for t in traffic), ("out",): sum(t.updates_out for t in traffic)})
        yield BYTES.of({("in",): sum(t.bytes_in for t in traffic), ("out",): sum(t.bytes_out for t in traffic)})
