"""The flow table from outside: aging, flushing, counting, listing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from services.common.logs import get_logger
from services.dpservice.engine import libbpf, runs
from services.dpservice.engine.btf import Layout
from services.dpservice.engine.codec import Codec, u32
from services.dpservice.engine.interface import PortUsage
from services.dpservice.model.flushes import (
    NatOfPort,
    NeighborRange,
    OfPort,
    OriginalDestination,
    Selector,
    Target,
    Untranslated,
    VipOfPort,
)
from services.dpservice.model.rows import IPAddress, PortNumber, Vni

log = get_logger(__name__)

TICK_SHIFT: Final = 27  # as in layout_flows.h
SWEEP_SECONDS: Final = 5.0
SIDE_VIP: Final = 0x20000


def ticks(seconds: float) -> int:
    """Seconds in the unit of flows' times."""
    return int(seconds * 1e9) >> TICK_SHIFT


def now() -> int:
    """The clock of flows."""
    return (time.monotonic_ns() >> TICK_SHIFT) & 0xFFFFFFFF


class Sweep(IntEnum):
    """What a walk over the table looks for: enum sweep_kind of layout_flows.h."""

    EXPIRED = 0
    PORT = 1
    VIP = 2
    NAT = 3
    DESTINATION = 4
    NEIGHBOR = 5
    UNDERLAY = 6
    DESTINATION6 = 7
    UNTRANSLATED = 8


@dataclass(frozen=True)
class FlowEntry:
    """One direction of a flow: what its packets say of themselves, and what becomes of them."""

    vni: Vni
    side: int
    protocol: int
    source: IPAddress
    source_port: int
    destination: IPAddress
    destination_port: int
    kind: int
    hop: int
    port: PortNumber
    underlay: IPv6Address
    rewrite: int
    address: IPv4Address
    new_port: int
    tcp: int
    owner: int
    is_primary: bool
    seconds_left: float


class Flows:
    """Walks the table by the program `sweep_flows`; a thread of its own ends what has expired."""

    def __init__(self, loaded: libbpf.Object, codec: Codec) -> None:
        self._codec = codec
        self._program = loaded.program("sweep_flows")
        self._flows, self._usage = loaded.map("flows"), loaded.map("usage")
        self._revisions = loaded.map("revisions")
        self._revision_of: dict[int, int] = {}  # bucket
        self.entries = 0
        self._pause = SWEEP_SECONDS
        self._ended = threading.Event()
        self.walking = threading.Lock()  # whoever holds it finds that no flow is removed meanwhile
        self._ager = threading.Thread(target=self._age, name="ager", daemon=True)

    def age_within(self, timeout: float) -> None:
        """Flows end at most half their timeout, and never more than five seconds, after they have expired."""
        self._pause = min(SWEEP_SECONDS, timeout / 2)
        if not self._ager.is_alive():
            self._ager.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._ended.set()
        if self._ager.is_alive():
            self._ager.join()

    def _age(self) -> None:
        while not self._ended.wait(self._pause):
            try:
                self.sweep(Sweep.EXPIRED)
            except OSError as error:
                log.warning("flows could not be aged", error=str(error))

    def sweep(self, kind: Sweep, **wanted: int | bytes) -> int:
        """Removes flows; how many entries went. Raises OSError."""
        layout = self._codec.layouts["sweep"]
        context = layout.pack(kind=kind, now=now(), **wanted)
        with self.walking:
            answer = runs.run_syscall(self._program, context)
        removed = layout.number(answer, "removed")
        self.entries = layout.number(answer, "flows") - removed
        return removed

    def flush(self, selectors: Sequence[Selector]) -> None:
        """Forgets what the selectors name. Ports are the caller's business: their epoch ends their flows at once."""
        for selector in selectors:
            match selector:
                case VipOfPort(port=port):
                    self.sweep(Sweep.VIP, port=port)
                case NatOfPort(port=port):
                    self.sweep(Sweep.NAT, port=port)
                case OriginalDestination(vni=vni, address=IPv4Address() as address):
                    self.sweep(Sweep.DESTINATION, vni=vni, address=int(address))
                case OriginalDestination(vni=vni, address=address):
                    self.sweep(Sweep.DESTINATION6, vni=vni, underlay=address.packed)
                case NeighborRange(vni=vni, address=address, min_port=low, max_port=high):
                    self.sweep(Sweep.NEIGHBOR, vni=vni, address=int(address), min=low, max=high)
                case Target(underlay=underlay):
                    self.sweep(Sweep.UNDERLAY, underlay=underlay.packed)
                case Untranslated(port=port, address=own, nat64=nat64):
                    if any(self._usage.get(u32(port + 1)) or b""):  # an interface that was just made has none
                        self.sweep(Sweep.UNTRANSLATED, port=port, address=int(own or 0), min=nat64)
                case OfPort():
                    continue

    def clear(self) -> None:
        """Forgets all."""
        self._flows.clear()
        self._usage.zero()
        self.bump(0)  # shortcuts past flows that are gone

    def usage(self) -> dict[PortNumber, PortUsage]:
        """What ports hold; those that hold nothing are missing."""
        layout = self._codec.layouts["usage"]
        found: dict[PortNumber, PortUsage] = {}
        for index, raw in enumerate(self._usage.values()):
            if index and any(raw):
                held = PortUsage(layout.number(raw, "flows"), layout.number(raw, "nat_ports"))
                found[PortNumber(index - 1)] = held
        return found

    def listed(self) -> Iterator[FlowEntry]:
        """All entries; those that change meanwhile may come twice or not at all."""
        return read_flows(self._flows, self._codec)

    def bump(self, bucket: int) -> None:
        """Flows by the routes of a bucket (0: all flows) look for their way again."""
        key = u32(bucket)
        if bucket not in self._revision_of:  # nobody else writes them
            self._revision_of[bucket] = int.from_bytes(self._revisions.get(key) or b"", "little")
        revision = self._revision_of[bucket] = self._revision_of[bucket] + 1 & 0xFFFFFFFF
        self._revisions.put(key, u32(revision))


def read_flows(flows: libbpf.Map, codec: Codec) -> Iterator[FlowEntry]:
    """The entries of a flow table."""
    key_layout, layout, instant = codec.layouts["flow_key"], codec.layouts["flow"], now()
    for key, raw in flows.items():
        left = (layout.number(raw, "expires") - instant + (1 << 31)) % (1 << 32) - (1 << 31)
        yield _entry(key_layout, key, layout, raw, left * (1 << TICK_SHIFT) / 1e9)


def _entry(key_layout: Layout, key: bytes, layout: Layout, raw: bytes, seconds_left: float) -> FlowEntry:
    def address(name: str) -> IPAddress:
        packed = key_layout.bytes(key, name)
        if key_layout.number(key, f"{name}_is_ipv6"):
            return IPv6Address(packed)
        return IPv4Address(int.from_bytes(packed[:4], "little"))

    return FlowEntry(
        vni=Vni(key_layout.number(key, "vni")),
        side=key_layout.number(key, "side"),
        protocol=key_layout.number(key, "protocol"),
        source=address("source"),
        source_port=key_layout.number(key, "source_port"),
        destination=address("destination"),
        destination_port=key_layout.number(key, "destination_port"),
        kind=layout.number(raw, "kind"),
        hop=layout.number(raw, "hop"),
        port=PortNumber(layout.number(raw, "port")),
        underlay=IPv6Address(layout.bytes(raw, "underlay")),
        rewrite=layout.number(raw, "rewrite"),
        address=IPv4Address(layout.bytes(raw, "address")),
        new_port=layout.number(raw, "new_port"),
        tcp=layout.number(raw, "tcp"),
        owner=layout.number(raw, "owner"),
        is_primary=bool(layout.number(raw, "flags") & 1),
        seconds_left=seconds_left,
    )
