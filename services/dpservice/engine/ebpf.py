"""The eBPF engine: rows become entries of pinned maps, devices get programs; packets flow without this process.

Maps are pinned below a directory of bpffs and found again by name. Programs are held by the devices they are attached
to; a restarted process loads them anew over the same maps and puts them in place of the old ones in one step.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Final
from uuid import UUID

from services.common.logs import get_logger
from services.dpservice.engine import libbpf
from services.dpservice.engine.btf import Btf
from services.dpservice.engine.interface import Delivery, GuestLink, PacketSettings, PortUsage, UplinkState
from services.dpservice.engine.offloads import enable_gro
from services.dpservice.model.flushes import Selector
from services.dpservice.model.rows import (
    AnyChange,
    Change,
    Function,
    FunctionKey,
    FunctionKind,
    Hop,
    IPNetwork,
    LocalHop,
    PacketCapture,
    Port,
    PortKey,
    PortNumber,
    RemoteHop,
    RouteKey,
    RouteTables,
    Rows,
    Vni,
    one_by_one,
    route_number,
)
from services.dpservice.model.underlay import UnderlayAddress

log = get_logger(__name__)

OBJECT_FILE: Final = Path(__file__).parent.parent / "bpf" / "dataplane.bpf.o"
FIRST: Final = bytes(4)  # the key of a map with one entry
VNI_BITS: Final = 32  # in front of the prefix in a route's key
STRUCTS: Final = [
    "port",
    "guest_mac",
    "route_key4",
    "route_key6",
    "hop",
    "function",
    "trusted_key",
    "uplink",
    "settings",
    "dhcp_reply",
    "drop_count",
]
MAPS: Final = (
    *("settings", "ports", "port_of_device", "guest_macs", "dhcp_replies", "routes4", "routes6"),
    *("functions", "trusted_sources", "uplinks", "drops"),
)


class EbpfEngine:
    """See the module's docstring. `routes` is the capacity of each family's table."""

    def __init__(self, bpf_root: Path, routes: int, *, discard: bool = False, object_file: Path = OBJECT_FILE) -> None:
        """Loads the programs over the maps below `bpf_root`, a directory in a bpffs.

        With `discard` the maps are made anew. Raises OSError, also when maps of an earlier version have another layout.
        """
        self._lock = threading.RLock()
        if discard:
            for table in MAPS:
                (bpf_root / table).unlink(missing_ok=True)
        self._object = libbpf.Object(object_file, bpf_root)
        for table in ("routes4", "routes6"):
            self._object.set_max_entries(table, routes)
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
        self._layouts = {name: btf.layout(name) for name in STRUCTS}
        self._reasons = btf.enum("drop_reason", "DROP_")
        self._delivery = btf.enum("delivery", "DELIVER_")
        self._hop_kinds = btf.enum("hop_kind", "HOP_")
        self._maps = {name: self._object.map(name) for name in MAPS}
        self._links: dict[str, GuestLink] = {}
        self._uplinks: dict[int, UplinkState] = {}
        self._unwrapping_early: set[int] = set()  # ifindexes
        self._ports = {
            PortNumber(int.from_bytes(key, "little")): self._read_port(key, raw)
            for key, raw in self._maps["ports"].items()
        }

    # Rows

    def apply(self, changes: Sequence[AnyChange]) -> None:
        with self._lock:
            for change in one_by_one(changes):
                self._apply(change)

    def _apply(self, change: Change) -> None:
        match change.key, change.after:
            case PortKey(number=number), Port() as port:
                self._put_port(number, port, fresh=change.before is None)
            case PortKey(number=number), None:
                self._remove_port(number)
            case RouteKey() as key, (LocalHop() | RemoteHop()) as hop:
                self._routes(key.prefix).put(self._route_key(key), self._hop(hop))
            case RouteKey() as key, None:
                self._routes(key.prefix).remove(self._route_key(key))
            case FunctionKey(underlay=underlay), Function() as function:
                raw = self._layouts["function"].pack(kind=function.kind, vni=function.vni, port=function.port)
                self._maps["functions"].put(underlay.packed, raw)
            case FunctionKey(underlay=underlay), None:
                self._maps["functions"].remove(underlay.packed)
            case _:
                raise TypeError(f"packets know no such row: {change}")

    def read_back(self, *, routes: bool = True) -> Rows:
        with self._lock:
            rows: Rows = {PortKey(number): port for number, port in self._ports.items()}
            for table in ("routes4", "routes6") if routes else ():
                for key, raw in self._maps[table].items():
                    rows[self._read_route_key(table, key)] = self._read_hop(raw)
            layout = self._layouts["function"]
            for key, raw in self._maps["functions"].items():
                rows[FunctionKey(UnderlayAddress(IPv6Address(key)))] = Function(
                    FunctionKind(layout.number(raw, "kind")),
                    Vni(layout.number(raw, "vni")),
                    PortNumber(layout.number(raw, "port")),
                )
            return rows

    def read_routes(self) -> RouteTables:
        with self._lock:
            tables: RouteTables = {}
            for table in ("routes4", "routes6"):
                for raw_key, raw in self._maps[table].items():
                    key = self._read_route_key(table, raw_key)
                    hops = tables.setdefault((key.vni, key.prefix.version), {})
                    hops[route_number(key.prefix)] = self._read_hop(raw)
            return tables

    def _put_port(self, number: PortNumber, port: Port, *, fresh: bool) -> None:
        if fresh:
            self._maps["guest_macs"].remove(_u32(number))
        if port.dhcp_reply:
            reply = self._layouts["dhcp_reply"].pack(length=len(port.dhcp_reply), frame=port.dhcp_reply)
            self._maps["dhcp_replies"].put(_u32(number), reply)
        else:
            self._maps["dhcp_replies"].remove(_u32(number))
        self._ports[number] = port
        self._place(number, port)

    def _place(self, number: PortNumber, port: Port) -> None:
        link = self._links.get(port.device)
        if link is None:
            where: dict[str, int | bytes] = {"delivery": self._delivery["nowhere"]}
        else:
            delivery = self._delivery["peer" if link.delivery is Delivery.PEER else "redirect"]
            where = {"delivery": delivery, "ifindex": link.ifindex, "mac": link.mac}
        raw = self._layouts["port"].pack(
            vni=port.vni,
            ipv4=port.ipv4.packed if port.ipv4 else bytes(4),
            ipv6=port.ipv6.packed if port.ipv6 else bytes(16),
            underlay=port.underlay.packed,
            device=port.device.encode(),
            **where,
        )
        self._maps["ports"].put(_u32(number), raw)
        if link is not None:
            self._maps["port_of_device"].put(_u32(link.ifindex), _u32(number))
            if link.delivery is Delivery.REDIRECT:
                for uplink in self._uplinks.values():
                    self._unwrap_early(uplink)

    def _remove_port(self, number: PortNumber) -> None:
        for device, owner in list(self._maps["port_of_device"].items()):
            if owner == _u32(number):
                self._maps["port_of_device"].remove(device)
        for table in ("ports", "dhcp_replies", "guest_macs"):
            self._maps[table].remove(_u32(number))
        self._ports.pop(number, None)

    def _read_port(self, key: bytes, raw: bytes) -> Port:
        layout, reply = self._layouts["port"], self._maps["dhcp_replies"].get(key)
        ipv4, ipv6 = IPv4Address(layout.bytes(raw, "ipv4")), IPv6Address(layout.bytes(raw, "ipv6"))
        frame = b""
        if reply is not None:
            length = self._layouts["dhcp_reply"].number(reply, "length")
            frame = self._layouts["dhcp_reply"].bytes(reply, "frame")[:length]
        return Port(
            device=layout.bytes(raw, "device").rstrip(b"\0").decode(),
            vni=Vni(layout.number(raw, "vni")),
            ipv4=ipv4 if int(ipv4) else None,
            ipv6=ipv6 if int(ipv6) else None,
            underlay=UnderlayAddress(IPv6Address(layout.bytes(raw, "underlay"))),
            dhcp_reply=frame,
        )

    def _routes(self, prefix: IPNetwork) -> libbpf.Map:
        return self._maps[f"routes{prefix.version}"]

    def _route_key(self, key: RouteKey) -> bytes:
        return self._layouts[f"route_key{key.prefix.version}"].pack(
            prefixlen=VNI_BITS + key.prefix.prefixlen,
            vni=key.vni.to_bytes(4, "big"),
            address=key.prefix.network_address.packed,
        )

    def _read_route_key(self, table: str, raw: bytes) -> RouteKey:
        layout = self._layouts[f"route_key{table[-1]}"]
        length, address = layout.number(raw, "prefixlen") - VNI_BITS, layout.bytes(raw, "address")
        prefix = IPv4Network((address, length)) if table == "routes4" else IPv6Network((address, length))
        return RouteKey(Vni(int.from_bytes(layout.bytes(raw, "vni"), "big")), prefix)

    def _hop(self, hop: Hop) -> bytes:
        layout = self._layouts["hop"]
        if isinstance(hop, LocalHop):
            return layout.pack(kind=self._hop_kinds["port"], port=hop.port)
        return layout.pack(kind=self._hop_kinds["remote"], underlay=hop.underlay.packed, vni=hop.vni)

    def _read_hop(self, raw: bytes) -> Hop:
        layout = self._layouts["hop"]
        if layout.number(raw, "kind") == self._hop_kinds["port"]:
            return LocalHop(PortNumber(layout.number(raw, "port")))
        underlay = UnderlayAddress(IPv6Address(layout.bytes(raw, "underlay")))
        return RemoteHop(underlay, Vni(layout.number(raw, "vni")))

    # The whole

    def generation(self) -> str:
        raw = self._maps["settings"].get(FIRST) or bytes(64)
        uuid = UUID(bytes=self._layouts["settings"].bytes(raw, "generation"))
        return str(uuid).upper() if uuid.int else ""

    def start_generation(self, uuid: str) -> None:
        with self._lock:
            for table in ("port_of_device", "ports", "dhcp_replies", "guest_macs", "functions", "routes4", "routes6"):
                self._maps[table].clear()
            self._ports.clear()
            raw = self._layouts["settings"].pack(generation=UUID(uuid).bytes)
            self._maps["settings"].put(FIRST, raw)

    def configure(self, settings: PacketSettings) -> None:
        with self._lock:
            wanted = {self._trusted_key(prefix): _u32(1) for prefix in settings.trusted}
            for key in [key for key, _ in self._maps["trusted_sources"].items() if key not in wanted]:
                self._maps["trusted_sources"].remove(key)
            for key, value in wanted.items():
                self._maps["trusted_sources"].put(key, value)
            raw = self._layouts["settings"].pack(
                generation=UUID(self.generation()).bytes,
                underlay_prefix=settings.underlay_prefix,
                check_sources=int(settings.check_sources),
                ipv6_overlay=int(settings.ipv6_overlay),
            )
            self._maps["settings"].put(FIRST, raw)

    def _trusted_key(self, prefix: IPv6Network) -> bytes:
        return self._layouts["trusted_key"].pack(prefixlen=32 + prefix.prefixlen, address=prefix.network_address.packed)

    def knows_guest(self, port: PortNumber) -> bool:
        raw = self._maps["guest_macs"].get(_u32(port))
        return raw is not None and bool(self._layouts["guest_mac"].number(raw, "known"))

    def flush(self, selectors: Sequence[Selector]) -> None:
        """There are no flows."""

    def capture(self, wanted: PacketCapture | None) -> None:
        """Captures are not there yet."""

    def usage(self) -> dict[PortNumber, PortUsage]:
        return {}

    def tables(self) -> dict[str, tuple[int, int]]:
        return {}

    def drops(self) -> dict[str, int]:
        return named_drops(self._maps["drops"], self._reasons)

    # Devices

    def set_guest_link(self, device: str, link: GuestLink | None) -> None:
        with self._lock:
            old = self._links.get(device)
            if old is not None and (link is None or link.ifindex != old.ifindex):
                self._maps["port_of_device"].remove(_u32(old.ifindex))
            if link is None:
                self._links.pop(device, None)
            else:
                self._links[device] = link
                libbpf.attach_ingress(link.ifindex, self._object.program("from_guest"))
            for number, port in self._ports.items():
                if port.device == device:
                    self._place(number, port)

    def set_uplink(self, index: int, state: UplinkState | None) -> None:
        with self._lock:
            old = self._uplinks.get(index)
            if state is None:
                self._uplinks.pop(index, None)
                self._maps["uplinks"].put(_u32(index), self._layouts["uplink"].pack())
                return
            if old is None or old.ifindex != state.ifindex:
                self._attach_uplink(state)
            self._uplinks[index] = state
            raw = self._layouts["uplink"].pack(
                ifindex=state.ifindex,
                usable=int(state.carrier and bool(state.router_mac)),
                mac=state.mac,
                router_mac=state.router_mac,
            )
            self._maps["uplinks"].put(_u32(index), raw)

    def _attach_uplink(self, uplink: UplinkState) -> None:
        """Chooses where the outer header is taken off: in the driver (XDP) or at tc.

        A TAP can't take GSO packets that bear the state of a tunnel: the kernel would cut them in software. Taken off
        in the driver, before segments are merged, the outer header leaves no such state. For a veth, which has to copy
        every packet for XDP, that is worth its price only when there are such guests; a veth guest takes everything.
        """
        libbpf.attach_ingress(uplink.ifindex, self._object.program("from_uplink"))
        self._unwrapping_early.discard(uplink.ifindex)
        if uplink.is_veth and not self._serves_taps():
            libbpf.detach_xdp(uplink.ifindex)  # that of an earlier process, which had other guests
            log.info("uplink attached", ifname=uplink.name, decapsulation="tc")
        else:
            self._unwrap_early(uplink)

    def _serves_taps(self) -> bool:
        links = (self._links.get(port.device) for port in self._ports.values())
        return any(link is not None and link.delivery is Delivery.REDIRECT for link in links)

    def _unwrap_early(self, uplink: UplinkState) -> None:
        """Stays until the process ends: who had one TAP guest will have another. tc is attached before."""
        if uplink.ifindex in self._unwrapping_early:
            return
        try:
            enable_gro(uplink.name)  # a guest must not get a frame for every segment
        except OSError as error:
            log.warning("received segments will not be merged", ifname=uplink.name, error=str(error))
        try:
            libbpf.attach_xdp(uplink.ifindex, self._object.program("unwrap_early"))
            way = "xdp"
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.ENOMEM):
                raise
            way = "tc"  # the driver has no XDP: segments reach TAP guests one by one
        self._unwrapping_early.add(uplink.ifindex)
        log.info("uplink attached", ifname=uplink.name, decapsulation=way)


def named_drops(drops: libbpf.Map, reasons: Mapping[str, int]) -> dict[str, int]:
    """The counters of all CPUs, by reason."""
    return {
        reason: sum(drops.get_per_cpu(_u32(number))) for reason, number in reasons.items() if reason != "reason_count"
    }


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")
