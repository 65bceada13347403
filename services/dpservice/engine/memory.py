"""An engine without packets: for tests of everything above it, and for trying the API on a machine without BPF."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from typing import Final

from services.dpservice.engine.interface import (
    STAGES,
    Delivery,
    FlowLayout,
    FlowUpdate,
    GuestLink,
    PacketSettings,
    PortUsage,
    SharedTables,
    UplinkState,
)
from services.dpservice.model.changes import AnyChange, RouteChanges, RouteTables, Row, Rows, apply_to, as_routes
from services.dpservice.model.flushes import Selector
from services.dpservice.model.keys import RouteKey
from services.dpservice.model.packet_rows import PacketCapture
from services.dpservice.model.rows import PortNumber


class MemoryEngine:
    """Keeps rows in dictionaries. A row that is neither as the caller thinks nor as it wants it is its error."""

    def __init__(self) -> None:
        self.transfer = NoFlows()
        self._lock = threading.Lock()
        self._rows: Rows = {}  # but routes
        self._routes: RouteTables = {}
        self._generation = ""
        self.settings: PacketSettings | None = None
        self.guest_links: dict[str, GuestLink] = {}
        self.uplinks: dict[int, UplinkState] = {}
        self.flushed: list[Selector] = []
        self.captured: PacketCapture | None = None

    def apply(self, changes: Sequence[AnyChange]) -> None:
        with self._lock:
            for change in changes:
                if isinstance(change, RouteChanges):
                    self._apply_routes(change)
                elif isinstance(change.key, RouteKey):
                    self._apply_routes(as_routes(change.key, change))
                else:
                    _check(change.key, self._rows.get(change.key), change.before, change.after)
                    apply_to(self._rows, [change])

    def _apply_routes(self, change: RouteChanges) -> None:
        hops = self._routes.setdefault((change.vni, change.version), {})
        for number in change.before.keys() | change.after.keys():
            _check(number, hops.get(number), change.before.get(number), change.after.get(number))
        for number in change.before.keys() - change.after.keys():
            hops.pop(number, None)
        hops.update(change.after)
        if not hops:
            del self._routes[change.vni, change.version]

    def flush(self, selectors: Sequence[Selector]) -> None:
        self.flushed += selectors

    def read_back(self, *, routes: bool = True) -> Rows:
        with self._lock:
            rows = dict(self._rows)
            if routes:
                apply_to(rows, [RouteChanges(*table, {}, hops) for table, hops in self._routes.items()])
            return rows

    def read_routes(self) -> RouteTables:
        with self._lock:
            return {table: dict(hops) for table, hops in self._routes.items()}

    def generation(self) -> str:
        return self._generation

    def start_generation(self, uuid: str) -> None:
        with self._lock:
            self._rows.clear()
            self._routes.clear()
            self._generation = uuid

    def configure(self, settings: PacketSettings) -> None:
        self.settings = settings

    def prepare(self, ifindex: int, delivery: Delivery | None = None) -> None:
        """Nothing takes any time here."""

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

    def stages(self) -> dict[str, int]:
        return dict.fromkeys(STAGES, 0)

    def capture(self, wanted: PacketCapture | None) -> None:
        self.captured = wanted

    def usage(self) -> dict[PortNumber, PortUsage]:
        return {}

    def service_ports(self) -> dict[str, int]:
        return {}

    def tables(self) -> dict[str, tuple[int, int]]:
        return {}


class NoFlows:
    """What an engine without packets has to tell, and to take over."""

    follows: Final = False

    def layout(self) -> FlowLayout:
        return FlowLayout(version=0, key=0, value=0)

    def source(self) -> NoFlows:
        return self

    def changes(self) -> FlowUpdate:
        """Nothing."""
        return FlowUpdate(fresh=False, guests={}, flows={})

    def shared(self) -> None:
        """There are no tables."""

    def receive(self, update: FlowUpdate) -> None:
        """There is nowhere to put it."""

    def follow(self, tables: SharedTables) -> None:
        raise OSError(errno.EOPNOTSUPP, "this engine has no tables")

    def settle(self) -> int:
        return 0

    def catch_up(self) -> int:
        return 0


def _check(key: object, found: Row | None, before: Row | None, after: Row | None) -> None:
    if found is not before and found not in (before, after):
        raise ValueError(f"{key} is {found}, not {before}")
