"""An engine without packets: for tests of everything above it, and for trying the API on a machine without BPF."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from services.dpservice.engine.interface import GuestLink, PacketSettings, PortUsage, UplinkState
from services.dpservice.model.flushes import Selector
from services.dpservice.model.rows import (
    AnyChange,
    LocalHop,
    PacketCapture,
    PortNumber,
    RemoteHop,
    RouteKey,
    RouteTables,
    Rows,
    apply_to,
    one_by_one,
    route_number,
)


class MemoryEngine:
    """Keeps rows in a dictionary. A row that is not as the caller thinks is an error of the caller."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: Rows = {}
        self._generation = ""
        self.settings: PacketSettings | None = None
        self.guest_links: dict[str, GuestLink] = {}
        self.uplinks: dict[int, UplinkState] = {}
        self.flushed: list[Selector] = []
        self.captured: PacketCapture | None = None

    def apply(self, changes: Sequence[AnyChange]) -> None:
        with self._lock:
            for change in one_by_one(changes):
                if self._rows.get(change.key) != change.before:
                    raise ValueError(f"{change.key} is {self._rows.get(change.key)}, not {change.before}")
                apply_to(self._rows, [change])

    def flush(self, selectors: Sequence[Selector]) -> None:
        self.flushed += selectors

    def read_back(self) -> Rows:
        with self._lock:
            return dict(self._rows)

    def read_routes(self) -> RouteTables:
        tables: RouteTables = {}
        for key, row in self.read_back().items():
            if isinstance(key, RouteKey) and isinstance(row, LocalHop | RemoteHop):
                tables.setdefault((key.vni, key.prefix.version), {})[route_number(key.prefix)] = row
        return tables

    def generation(self) -> str:
        return self._generation

    def start_generation(self, uuid: str) -> None:
        with self._lock:
            self._rows.clear()
            self._generation = uuid

    def configure(self, settings: PacketSettings) -> None:
        self.settings = settings

    def set_guest_link(self, device: str, link: GuestLink | None) -> None:
        if link is None:
            self.guest_links.pop(device, None)
        else:
            self.guest_links[device] = link

    def set_uplink(self, index: int, state: UplinkState | None) -> None:
        if state is None:
            self.uplinks.pop(index, None)
        else:
            self.uplinks[index] = state

    def knows_guest(self, port: PortNumber) -> bool:
        return False

    def drops(self) -> dict[str, int]:
        return {}

    def capture(self, wanted: PacketCapture | None) -> None:
        self.captured = wanted

    def usage(self) -> dict[PortNumber, PortUsage]:
        return {}

    def tables(self) -> dict[str, tuple[int, int]]:
        return {}
