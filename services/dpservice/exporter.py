"""/metrics, /healthz and /readyz of the process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.registry import Collector

from services.common.addresses import split_address
from services.common.telemetry_metrics import Family, exported
from services.dpservice.dataplane import Dataplane
from services.dpservice.engine.interface import Engine

DROPS = Family("counter", "ferrite_dpservice_drops", "Packets dropped, by reason.", ("reason",))
INTERFACES = Family("gauge", "ferrite_dpservice_interfaces", "Interfaces.")
ROUTES = Family("gauge", "ferrite_dpservice_routes", "Routes, interfaces' own included.", ("vni",))
PACKETS = Family(
    "counter",
    "ferrite_dpservice_device_packets",
    "Packets of guest devices and uplinks that the host owns; in: from the guest or the wire.",
    ("device", "direction"),
)
BYTES = Family("counter", "ferrite_dpservice_device_bytes", "Their bytes.", ("device", "direction"))

NETDEV: Final = Path("/proc/self/net/dev")
"""Counters of all netdevs of the namespace (proc(5)); unlike /sys it is right after setns alone."""
_SENT_AT: Final = 8  # fields after the name: eight about receiving, then those about sending


class DataplaneCollector(Collector):
    """Reads counters at the moment they are asked for; `devices` are the netdevs to tell about."""

    def __init__(self, engine: Engine, dataplane: Dataplane, devices: Iterable[str] = ()) -> None:
        self._engine, self._dataplane, self._devices = engine, dataplane, frozenset(devices)

    def collect(self) -> Iterator[Any]:
        """For the Prometheus registry."""
        yield DROPS.of({(reason,): count for reason, count in self._engine.drops().items()})
        interfaces, routes = self._dataplane.read(lambda model: (model.interfaces(), model.routes_by_vni()))
        yield INTERFACES.of({(): len(interfaces)})
        yield ROUTES.of({(str(vni),): count for vni, count in routes.items()})
        counters = netdev_counters(NETDEV.read_text())
        present = {device: counters[device] for device in sorted(self._devices & counters.keys())}
        for family, index in ((PACKETS, 1), (BYTES, 0)):
            yield family.of(
                {
                    (device, direction): fields[index + offset]
                    for device, fields in present.items()
                    for direction, offset in (("in", 0), ("out", _SENT_AT))
                }
            )


def netdev_counters(text: str) -> dict[str, list[int]]:
    """The fields of /proc/net/dev by device."""
    found = {}
    for line in text.splitlines()[2:]:
        device, _, fields = line.partition(":")
        found[device.strip()] = [int(field) for field in fields.split()]
    return found


@contextmanager
def exporting(listen: str, collector: DataplaneCollector) -> Iterator[None]:
    """Serves on `host:port` while the context is open; nowhere when it is empty. Raises OSError."""
    if not listen:
        yield
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, media = self._answer()
            self.send_response(status)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _answer(self) -> tuple[int, bytes, str]:
            if self.path == "/metrics":
                return 200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST
            known = self.path in ("/healthz", "/readyz")
            return (200, b"ok\n", "text/plain") if known else (404, b"not found\n", "text/plain")

        def log_message(self, format: str, *arguments: Any) -> None:
            """Scrapes are no events."""

    host, port = split_address(listen)

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with exported(collector):
        server = Server((host, port), Handler)
        threading.Thread(target=server.serve_forever, name="exporter", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
