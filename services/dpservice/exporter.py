"""/metrics, /healthz and /readyz of the process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.registry import Collector

from services.common.addresses import split_address
from services.common.telemetry_metrics import Family, exported
from services.dpservice.figures import AT_BYTES, AT_PACKETS, SENT_AT, Figures, counters
from services.dpservice.original_metrics import families

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
OWNED_PACKETS = Family(
    "counter",
    "ferrite_dpservice_interface_packets",
    "Packets of an interface; in: from the guest.",
    ("interface", "vni", "direction"),
)
OWNED_BYTES = Family("counter", "ferrite_dpservice_interface_bytes", "Their bytes.", ("interface", "vni", "direction"))
FLOWS = Family("gauge", "ferrite_dpservice_interface_flows", "Flows of an interface.", ("interface", "vni"))
CAPACITY = Family("gauge", "ferrite_dpservice_table_capacity", "Entries that a table has room for.", ("table",))
ENTRIES = Family("gauge", "ferrite_dpservice_table_entries", "Entries of a table.", ("table",))
REQUEST_SECONDS = 10.0
"""A client that says nothing costs a thread no longer."""


class DataplaneCollector(Collector):
    """Reads numbers at the moment they are asked for: ours, then the same by the original's names."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Any]:
        """For the Prometheus registry."""
        owners = self._figures.owners()
        yield DROPS.of({(reason,): count for reason, count in self._figures.drops().items()})
        yield INTERFACES.of({(): len(owners)})
        yield ROUTES.of({(str(vni),): count for vni, count in self._figures.routes().items()})
        present = {device.netdev: fields for device, fields in counters(self._figures.devices)}
        owned: dict[tuple[str, ...], list[int]] = {
            (owner.id, str(owner.vni)): present[owner.netdev] for owner in owners if owner.netdev in present
        }
        for family, index in ((PACKETS, AT_PACKETS), (BYTES, AT_BYTES)):
            yield family.of(_both_ways({(netdev,): fields for netdev, fields in sorted(present.items())}, index))
        for family, index in ((OWNED_PACKETS, AT_PACKETS), (OWNED_BYTES, AT_BYTES)):
            yield family.of(_both_ways(owned, index))
        yield FLOWS.of({(owner.id, str(owner.vni)): owner.flows for owner in owners})
        tables = self._figures.tables()
        yield CAPACITY.of({(table,): capacity for table, (capacity, _) in tables.items()})
        yield ENTRIES.of({(table,): entries for table, (_, entries) in tables.items()})
        yield from families(self._figures)


def _both_ways(by_labels: Mapping[tuple[str, ...], Sequence[int]], index: int) -> dict[tuple[str, ...], float]:
    return {
        (*labels, direction): fields[index + offset]
        for labels, fields in by_labels.items()
        for direction, offset in (("in", 0), ("out", SENT_AT))
    }


@contextmanager
def exporting(listen: str, collector: DataplaneCollector) -> Iterator[None]:
    """Serves on `host:port` while the context is open; nowhere when it is empty. Raises OSError."""
    if not listen:
        yield
        return

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

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
