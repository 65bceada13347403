"""The eBPF engine: rows become entries of pinned maps, devices get programs; packets flow without this process.

Maps are pinned below a directory of bpffs and found again by name. Programs are held by the devices they are attached
to; a restarted process loads them anew over the same maps and puts them in place of the old ones in one step.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Final, TypeVar

from services.common.logs import get_logger
from services.dpservice.engine import libbpf
from services.dpservice.engine.btf import Btf
from services.dpservice.engine.capture import Mirror
from services.dpservice.engine.codec import Codec, u32
from services.dpservice.engine.device_ports import DevicePorts
from services.dpservice.engine.devices import Devices
from services.dpservice.engine.flows import FlowEntry, Flows, Sweep
from services.dpservice.engine.interface import (
    STAGES,
    Delivery,
    GuestLink,
    PacketSettings,
    PortUsage,
    TableSizes,
    UplinkState,
)
from services.dpservice.engine.lists import RuleLists
from services.dpservice.engine.routes import RouteMaps
from services.dpservice.engine.services import ServiceTables
from services.dpservice.engine.settings import Settings
from services.dpservice.engine.templates import TemplateTable
from services.dpservice.engine.transfer import FlowTransfer
from services.dpservice.model.changes import AnyChange, Change, RouteChanges, RouteTables, Rows, as_routes
from services.dpservice.model.flushes import OfPort, Selector
from services.dpservice.model.keys import (
    BalancerNumberKey,
    FunctionKey,
    NeighborKey,
    PortKey,
    PublicKey,
    RouteKey,
    RulesKey,
    SourceKey,
)
from services.dpservice.model.packet_rows import AllowedSource, PacketBalancer, PacketCapture, Port, Public, Rules
from services.dpservice.model.rows import BalancerNumber, Function, Neighbor, PortNumber
from services.dpservice.model.underlay import UnderlayAddress

log = get_logger(__name__)
T = TypeVar("T")

OBJECT_FILE: Final = Path(__file__).parent.parent / "bpf" / "dataplane.bpf.o"
# Maps that a new generation begins without; arrays are set to zero.
TABLES: Final = ("templates", "port_of_device", "functions", "publics", "neighbors", "balancers", "allowed_sources",
                 "rules", "routes4", "routes6", "nat_mappings", "nat_claims", "fragments", "sessions",
                 "source_ports")  # fmt: skip
ARRAYS: Final = ("guest_macs", "device_ports", "rule_lists", "session_counts")
SINGLE_MAPS: Final = (
    *TABLES,
    *ARRAYS,
    *("settings", "ports", "trusted_sources", "uplinks", "drops", "stages", "programs", "mirrored", "mirror"),
    *("services", "service_of", "service_from"),
)
COUNTED: Final = ("functions", "publics", "neighbors", "balancers", "rules", "nat_mappings", "nat_claims",
                  "source_ports")  # fmt: skip
PROGRAMS: Final = ("serve_guest", "to_service", "from_service")  # enum program_slot of layout_services.h


class EbpfEngine:
    """See the module's docstring. `routes` is the capacity of each family's table."""

    def __init__(
        self,
        bpf_root: Path,
        routes: int,
        *,
        sizes: TableSizes | None = None,
        discard: bool = False,
        object_file: Path = OBJECT_FILE,
    ) -> None:
        """Loads the programs over the maps below `bpf_root`, a directory in a bpffs.

        With `discard` the maps are made anew. Raises OSError, also when maps of an earlier version have another layout.
        """
        self._lock = threading.RLock()
        if discard:
            for pinned in bpf_root.iterdir():
                if not pinned.name.endswith(".debug"):  # the kernel's own
                    pinned.unlink()
        self._object = libbpf.Object(object_file, bpf_root)
        self._sizes = sizes or TableSizes()
        self._size(routes)
        try:
            self._object.load()
        except OSError as error:
            if "parameter mismatch" not in str(error):
                raise
            raise OSError(
                errno.EEXIST,
                f"the maps in {bpf_root} are of another version or of other sizes: keep those, or start with --cold",
            ) from error
        btf = Btf(self._object.btf())
        self._codec = Codec(btf)
        self._reasons = btf.enum("drop_reason", "DROP_")
        self._maps = {name: self._object.map(name) for name in SINGLE_MAPS}
        self._settings = Settings(self._maps["settings"], self._codec, self._sizes)
        self._settings.check_layout(bpf_root)
        self._templates = TemplateTable(self._maps["templates"], self._codec)
        self._services = ServiceTables(self._maps, self._codec)
        self._mirror = Mirror(self._maps, self._codec, self._object.program("to_uplink"))
        for slot, program in enumerate(PROGRAMS):
            self._maps["programs"].put(u32(slot), u32(self._object.program(program)))
        self._flows = Flows(self._object, self._codec)
        self._routes = RouteMaps(self._object, self._codec, self._flows.bump)
        self._lists = RuleLists(self._object, self._codec)
        self._devices = Devices(self._object, self._codec)
        self._device_ports = DevicePorts(self._maps)
        self._ports: dict[PortNumber, Port] = {}
        self._epochs: dict[PortNumber, int] = {}
        self._read_ports()
        self.transfer = FlowTransfer(self._object, self._codec, self._ports, self._epochs, self._lock, self._flows)

    def _size(self, routes: int) -> None:
        sizes = self._sizes
        for table in ("routes4", "routes6"):
            self._object.set_max_entries(table, routes)
        self._object.set_max_entries("flows", 2 * sizes.flows)
        self._object.set_max_entries("nat_mappings", sizes.nat_ports)
        # One port serves many destinations, each by a flow with a claim: quotas of flows have to count for them too.
        self._object.set_max_entries("nat_claims", max(sizes.nat_ports, sizes.flows))

    def _read_ports(self) -> None:
        layout = self._codec.layouts["port"]
        for index, raw in enumerate(self._maps["ports"].values()):
            number = PortNumber(index)
            self._epochs[number] = layout.number(raw, "epoch")
            if layout.number(raw, "used"):
                port = self._codec.read_port(raw, self._templates.of(number))
                if port is not None:
                    self._ports[number] = port

    def close(self) -> None:
        """Ends the thread; packets go on."""
        self._flows.stop()

    # Rows

    def apply(self, changes: Sequence[AnyChange]) -> None:
        with self._lock:
            for change in changes:
                if isinstance(change, RouteChanges):
                    self._routes.change(change)
                else:
                    self._apply(change)

    def _apply(self, change: Change) -> None:
        match change.key, change.after:
            case RouteKey() as key, _:
                self._routes.change(as_routes(key, change))
            case PortKey(number=number), Port() as port:
                self._put_port(number, port, fresh=change.before is None)
            case PortKey(number=number), None:
                self._remove_port(number)
            case RulesKey() as key, (Rules() | None) as rules:
                self._lists.change(key, rules)
            case NeighborKey() as key, (Neighbor() | None) as neighbor:
                self._change_neighbor(key, neighbor)
            case SourceKey() as key, (AllowedSource() | None) as source:
                self._change_row("allowed_sources", self._codec.source_key(key), source, lambda _: u32(1))
                self._flows.bump(0)  # flows with such a source have to be checked again
            case FunctionKey(underlay=underlay), (Function() | None) as function:
                self._change_row("functions", underlay.packed, function, self._codec.function)
            case PublicKey() as key, (Public() | None) as public:
                self._change_row("publics", self._codec.public_key(key), public, self._codec.public)
            case BalancerNumberKey(number=number), (PacketBalancer() | None) as balancer:
                self._change_row("balancers", u32(number), balancer, self._codec.balancer)
            case _:
                raise TypeError(f"packets know no such row: {change}")

    def _change_row(self, table: str, key: bytes, row: T | None, pack: Callable[[T], bytes]) -> None:
        if row is None:
            self._maps[table].remove(key)
        else:
            self._maps[table].put(key, pack(row))

    def _change_neighbor(self, key: NeighborKey, neighbor: Neighbor | None) -> None:
        for entry in self._codec.neighbor_keys(key):
            self._change_row("neighbors", entry, neighbor, lambda owner: self._codec.neighbor(key, owner.underlay))

    def _put_port(self, number: PortNumber, port: Port, *, fresh: bool) -> None:
        if fresh:
            self._forget_guest(number)
        self._templates.put(number, port.templates)
        self._ports[number] = port
        self._place(number, port)

    def _place(self, number: PortNumber, port: Port) -> None:
        link = self._devices.guests.get(port.device)
        self._maps["ports"].put(u32(number), self._codec.port(port, link, self._epochs[number]))
        if link is not None:
            self._device_ports.set(link.ifindex, number)
            self._devices.serve_taps(link)

    def _remove_port(self, number: PortNumber) -> None:
        self._ports.pop(number, None)  # first: nothing below may put it into service again
        self._device_ports.release(number)
        self._end_flows(number)
        self._maps["ports"].put(u32(number), self._codec.unused_port(self._epochs[number]))
        self._templates.put(number, ())
        self._forget_guest(number)

    def _forget_guest(self, number: PortNumber) -> None:
        """The next guest may show another MAC; until then it gets packets by the one that is known of this port."""
        layout, raw = self._codec.layouts["guest_mac"], self._maps["guest_macs"].get(u32(number)) or b""
        if layout.number(raw, "known"):
            self._maps["guest_macs"].put(u32(number), layout.changed(raw, known=0))

    def _end_flows(self, number: PortNumber) -> None:
        """All flows of a port at once: they bear another epoch from now on."""
        self._epochs[number] = self._epochs[number] + 1 & 0xFFFFFFFF
        if number in self._ports:
            self._place(number, self._ports[number])

    def read_back(self, *, routes: bool = True) -> Rows:
        with self._lock:
            rows: Rows = {PortKey(number): port for number, port in self._ports.items()}
            if routes:
                rows.update(self._routes.rows())
            rows.update(self._lists.rows())
            for key, raw in self._maps["functions"].items():
                rows[FunctionKey(UnderlayAddress(IPv6Address(key)))] = self._codec.read_function(raw)
            for key, raw in self._maps["publics"].items():
                rows[self._codec.read_public_key(key)] = self._codec.read_public(raw)
            for key, raw in self._maps["neighbors"].items():
                whole, underlay = self._codec.read_neighbor(key, raw)
                rows[whole] = Neighbor(underlay)
            for key, raw in self._maps["balancers"].items():
                number = BalancerNumber(int.from_bytes(key, "little"))
                rows[BalancerNumberKey(number)] = self._codec.read_balancer(raw)
            for key, _ in self._maps["allowed_sources"].items():
                rows[self._codec.read_source_key(key)] = AllowedSource()
            return rows

    def read_routes(self) -> RouteTables:
        with self._lock:
            return self._routes.tables()

    # The whole

    def generation(self) -> str:
        return self._settings.generation()

    def start_generation(self, uuid: str) -> None:
        with self._lock:
            for number in list(self._ports):
                self._remove_port(number)
            self._mirror.follow(None)
            for table in ARRAYS:  # first: they refer to what is in the tables
                self._maps[table].zero()
            for table in TABLES:
                self._maps[table].clear()
            self._device_ports.forget()
            self._flows.clear()  # last: a packet that was on its way has passed by now
            self._lists.forget()
            self._routes.forget()
            self._settings.start_generation(uuid)

    def configure(self, settings: PacketSettings) -> None:
        with self._lock:
            self._services.configure(settings.virtual_services, settings.underlay_prefix)
            self._mirror.configure(outgoing=settings.mirror_outgoing)
            wanted = {self._trusted_key(prefix): u32(1) for prefix in settings.trusted}
            for key in [key for key, _ in self._maps["trusted_sources"].items() if key not in wanted]:
                self._maps["trusted_sources"].remove(key)
            for key, value in wanted.items():
                self._maps["trusted_sources"].put(key, value)
            self._settings.configure(settings)
            self._flows.bump(0)
            self._flows.age_within(settings.flow_timeout)

    def _trusted_key(self, prefix: IPv6Network) -> bytes:
        layout = self._codec.layouts["trusted_key"]
        return layout.pack(prefixlen=32 + prefix.prefixlen, address=prefix.network_address.packed)

    def knows_guest(self, port: PortNumber) -> bool:
        raw = self._maps["guest_macs"].get(u32(port))
        return raw is not None and bool(self._codec.layouts["guest_mac"].number(raw, "known"))

    def flush(self, selectors: Sequence[Selector]) -> None:
        with self._lock:
            for selector in selectors:
                if isinstance(selector, OfPort):
                    self._end_flows(selector.port)
        self._flows.flush(selectors)

    def capture(self, wanted: PacketCapture | None) -> None:
        with self._lock:
            self._mirror.follow(wanted)

    def usage(self) -> dict[PortNumber, PortUsage]:
        return self._flows.usage()

    def tables(self) -> dict[str, tuple[int, int]]:
        """Without the lock: changes need not wait while large tables are counted."""
        found = {name: (self._object.max_entries(name), count) for name, count in self._entries().items()}
        flows = found["flows"]
        return found | {"flows": (flows[0] // 2, flows[1] // 2)}

    def _entries(self) -> dict[str, int]:
        counted = {name: sum(1 for _ in self._maps[name].items()) for name in COUNTED}
        return counted | self._routes.counts() | {"ports": len(self._ports), "flows": self._flows.entries}

    def flows(self) -> Iterable[FlowEntry]:
        """Every direction of every flow, as it is now or was a moment ago."""
        return self._flows.listed()

    def age(self) -> int:
        """Ends what has expired, as happens by itself every few seconds; how many entries went."""
        return self._flows.sweep(Sweep.EXPIRED)

    def service_ports(self) -> dict[str, int]:
        """How many source ports of each virtual service somebody has."""
        return self._services.used_ports()

    def drops(self) -> dict[str, int]:
        return named_drops(self._maps["drops"], self._reasons)

    def stages(self) -> dict[str, int]:
        return {name: sum(self._maps["stages"].get_per_cpu(u32(number))) for number, name in enumerate(STAGES)}

    # Devices

    def prepare(self, ifindex: int, delivery: Delivery | None = None) -> None:
        with self._lock:
            self._devices.prepare(ifindex, delivery)

    def set_guest_link(self, device: str, link: GuestLink | None) -> None:
        with self._lock:
            old = self._devices.guests.get(device)
            if old is not None and (link is None or link.ifindex != old.ifindex):
                self._device_ports.set(old.ifindex, None)
            self._devices.set_guest(device, link)
            owners = [number for number, port in self._ports.items() if port.device == device]
            for number in owners:
                self._place(number, self._ports[number])
            if link is not None and not owners:
                self._device_ports.set(link.ifindex, None)  # what a killed process may have left

    def set_uplink(self, index: int, state: UplinkState | None) -> None:
        with self._lock:
            self._devices.set_uplink(index, state, serves_taps=self._serves_taps())
            self._mirror.set_uplink(index, state.ifindex if state else None)
            if state is None:
                self._maps["uplinks"].put(u32(index), self._codec.layouts["uplink"].pack())
                return
            raw = self._codec.layouts["uplink"].pack(
                ifindex=state.ifindex,
                usable=int(state.carrier and bool(state.router_mac)),
                mtu=state.mtu,
                is_veth=int(state.is_veth),
                mac=state.mac,
                router_mac=state.router_mac,
            )
            self._maps["uplinks"].put(u32(index), raw)

    def _serves_taps(self) -> bool:
        links = (self._devices.guests.get(port.device) for port in self._ports.values())
        return any(link is not None and link.delivery is Delivery.REDIRECT for link in links)


def named_drops(drops: libbpf.Map, reasons: Mapping[str, int]) -> dict[str, int]:
    """The counters of all CPUs, by reason."""
    return {
        reason: sum(drops.get_per_cpu(u32(number))) for reason, number in reasons.items() if reason != "reason_count"
    }
