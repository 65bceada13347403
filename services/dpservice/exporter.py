"""/metrics, /healthz and /readyz of the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from services.dpservice.dataplane import Dataplane
from services.dpservice.engine.interface import Engine


class DataplaneCollector:
    """Reads counters at the moment they are asked for."""

    def __init__(self, engine: Engine, dataplane: Dataplane) -> None:
        self._engine, self._dataplane = engine, dataplane

    def collect(self) -> Iterator[Any]:
        """For the Prometheus registry."""
        drops = CounterMetricFamily("ferrite_dpservice_drops", "Packets dropped, by reason", labels=["reason"])
        for reason, count in self._engine.drops().items():
            drops.add_metric([reason], count)
        yield drops
        interfaces, routes = self._dataplane.read(lambda model: (model.interfaces(), model.routes_by_vni()))
        yield GaugeMetricFamily("ferrite_dpservice_interfaces", "Interfaces", value=len(interfaces))
        table = GaugeMetricFamily("ferrite_dpservice_routes", "Routes, interfaces' own included", labels=["vni"])
        for vni, count in routes.items():
            table.add_metric([str(vni)], count)
        yield table


@contextmanager
def exporting(listen: str, collector: DataplaneCollector) -> Iterator[None]:
    """Serves on `host:port` while the context is open; nowhere when it is empty. Raises OSError."""
    if not listen:
        yield
        return
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = generate_latest(registry) if self.path == "/metrics" else b"ok\n"
            known = self.path in ("/metrics", "/healthz", "/readyz")
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST if self.path == "/metrics" else "text/plain")
            self.end_headers()
            if known:
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Scrapes are no events."""

    host, _, port = listen.rpartition(":")
    server = ThreadingHTTPServer((host.strip("[]"), int(port)), Handler)
    threading.Thread(target=server.serve_forever, name="exporter", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
