"""Flows from one data plane of a host to another: read out as they change, and put in with the receiver's ports.

That is how a standby keeps up; its last look goes into the other one's tables themselves (`adoption`), if it may.
Only flows, sessions with virtual services and guests' MACs travel: who holds which NAT port, and how much a port uses,
follows from these.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from services.common.logs import get_logger
from services.dpservice.engine import libbpf, runs
from services.dpservice.engine.adoption import Adoption
from services.dpservice.engine.codec import Codec, u32
from services.dpservice.engine.flows import Flows
from services.dpservice.engine.interface import FlowLayout, FlowUpdate, GuestState, SharedTables
from services.dpservice.engine.sessions import SessionTransfer
from services.dpservice.engine.settings import LAYOUT_VERSION
from services.dpservice.model.packet_rows import Port
from services.dpservice.model.rows import PortNumber

log = get_logger(__name__)

SIDES_OF_PORTS: Final = 0x20000  # as in layout_flows.h: below, a side has a port's number in its lower 16 bits
SIDES_OF_TUNNELS: Final = 0x10000  # and below that, packets come from the guest itself
HOP_PORT: Final = 1
FLOW_HAS_PEER: Final = 2
NEWS_TICKS: Final = 37  # of 134 ms: a later expiry is news from five seconds on
BATCH: Final = 4096
Ports = Mapping[PortNumber, Port]


class FlowSource:
    """What became different since it was asked last; at first everything."""

    def __init__(self, transfer: FlowTransfer) -> None:
        self._transfer = transfer
        self._fresh = True
        self._flows: dict[bytes, bytes] = {}
        self._sessions: dict[bytes, bytes] = {}

    def changes(self) -> FlowUpdate:
        """Raises OSError."""
        flows = _changes(self._flows, dict(self._transfer.flows.items()), self._transfer.is_news)
        sessions = self._transfer.sessions
        changed = _changes(self._sessions, self._transfer.sessions_present(), sessions.is_news)
        fresh, self._fresh = self._fresh, False
        return FlowUpdate(fresh, self._transfer.guests(), flows, changed, sessions.services())


def _changes(
    told: dict[bytes, bytes], found: Mapping[bytes, bytes], is_news: Callable[[bytes, bytes], bool]
) -> dict[bytes, bytes | None]:
    """What became different, None for what is gone; it is told then."""
    changed: dict[bytes, bytes | None] = dict.fromkeys(told.keys() - found.keys())
    for key in changed:
        del told[key]
    for key, value in found.items():
        old = told.get(key)
        if old is None or is_news(old, value):
            changed[key] = told[key] = value
    return changed


class FlowTransfer:
    """The flow table of an engine, for both directions. `ports` and `epochs` are the engine's own, as is `lock`."""

    def __init__(
        self,
        loaded: libbpf.Object,
        codec: Codec,
        ports: Ports,
        epochs: Mapping[PortNumber, int],
        lock: threading.RLock,
        aged: Flows,
    ) -> None:
        self._ports, self._epochs, self._lock, self._aged = ports, epochs, lock, aged
        self.sessions = SessionTransfer(loaded, codec)
        self._adoption = Adoption(loaded, codec, self.sessions)
        self._key, self._value = codec.layouts["flow_key"], codec.layouts["flow"]
        self._settling, self._settlement = loaded.program("settle_flows"), codec.layouts["settlement"]
        self._mac_layout = codec.layouts["guest_mac"]
        self.flows, self._usage = loaded.map("flows"), loaded.map("usage")
        self._macs, self._revisions = loaded.map("guest_macs"), loaded.map("revisions")
        self._unplaced: dict[bytes, bytes] = {}  # flows of ports that are not here yet

    def is_news(self, old: bytes, new: bytes) -> bool:
        """Does a follower have to know of the difference? Not of every second that a flow lives longer, nor of routes:
        it has its own."""
        if old == new:
            return False
        expires = (self._value.number(new, "expires") - self._value.number(old, "expires")) & 0xFFFFFFFF
        if NEWS_TICKS < expires < 0x100000000 - NEWS_TICKS:
            return True
        same = {name: self._value.bytes(new, name) for name in ("expires", "revision")}
        return self._value.changed(old, **same) != new

    def layout(self) -> FlowLayout:
        return FlowLayout(LAYOUT_VERSION, self._key.size, self._value.size, *self.sessions.sizes)

    def source(self) -> FlowSource:
        return FlowSource(self)

    def shared(self) -> SharedTables:
        return self._adoption.shared()

    def guests(self) -> dict[PortNumber, GuestState]:
        """What guests showed of themselves."""
        found = {}
        for number, port in dict(self._ports).items():
            raw = self._macs.get(u32(number)) or bytes(8)
            known = self._mac_layout.number(raw, "known")
            mac = self._mac_layout.bytes(raw, "address") if known else b""
            found[number] = GuestState(port.underlay, mac, port.device, port.vni)
        return found

    def sessions_present(self) -> dict[bytes, bytes]:
        """Sessions that guests have with virtual services."""
        return self.sessions.present(self._epochs)

    def receive(self, update: FlowUpdate) -> None:
        """Puts flows in that no packet uses yet. Raises OSError: no room."""
        with self._lock:
            self._receive(update)

    def _receive(self, update: FlowUpdate) -> None:
        if update.fresh:
            self.flows.clear()
            self._unplaced.clear()
        here = self._here(update.guests)
        self._receive_macs(update.guests)
        self.sessions.receive(update.services, update.sessions, here, self._epochs, fresh=update.fresh)
        arrived: dict[bytes, bytes | None] = {**self._unplaced, **update.flows}
        self._unplaced.clear()
        keys, values, removed = [], [], []
        for key, value in arrived.items():
            own_key = self._own_key(key, here)
            if value is None:
                if own_key is not None:
                    removed.append(own_key)
                continue
            own_value = self._own_value(own_key, value, here) if own_key is not None else None
            if own_key is None or own_value is None:
                self._unplaced[key] = value
                continue
            keys.append(own_key)
            values.append(own_value)
        self.flows.remove_many(b"".join(removed))
        for start in range(0, len(keys), BATCH):
            self.flows.put_many(b"".join(keys[start : start + BATCH]), b"".join(values[start : start + BATCH]))
        self._aged.bump(0)  # shortcuts past flows that are gone or others now: none holds any more

    def _here(self, guests: Mapping[PortNumber, GuestState]) -> dict[PortNumber, PortNumber]:
        """Our numbers of the other engine's ports: with the same underlay address, else at the same device."""
        of_underlay = {port.underlay: number for number, port in self._ports.items()}
        of_device = {(port.device, port.vni): number for number, port in self._ports.items()}
        found = {
            number: of_underlay.get(guest.underlay, of_device.get((guest.device, guest.vni)))
            for number, guest in guests.items()
        }
        return {number: own for number, own in found.items() if own is not None}

    def _receive_macs(self, guests: Mapping[PortNumber, GuestState]) -> None:
        here = self._here(guests)
        for number, guest in guests.items():
            if guest.mac and number in here:
                self._macs.put(u32(here[number]), self._mac_layout.pack(address=guest.mac, known=1))

    def _own_side(self, side: int, here: Mapping[PortNumber, PortNumber]) -> int | None:
        if side >= SIDES_OF_PORTS:
            return side
        port = here.get(PortNumber(side & 0xFFFF))
        return None if port is None else side & ~0xFFFF | port

    def _own_key(self, key: bytes, here: Mapping[PortNumber, PortNumber]) -> bytes | None:
        side = self._own_side(self._key.number(key, "side"), here)
        return None if side is None else self._key.changed(key, side=side)

    def _own_value(self, key: bytes, value: bytes, here: Mapping[PortNumber, PortNumber]) -> bytes | None:
        """The entry with ports, owner and epoch of this side; its routes are looked up again."""
        layout, side = self._value, self._key.number(key, "side")
        peer_side = self._own_side(layout.number(value, "peer_side"), here)
        owner, port = layout.number(value, "owner"), PortNumber(layout.number(value, "port"))
        is_local = layout.number(value, "hop") == HOP_PORT
        if peer_side is None or (owner and PortNumber(owner - 1) not in here) or (is_local and port not in here):
            return None
        owner = here[PortNumber(owner - 1)] + 1 if owner else 0
        touched = []  # current_epoch() of flow.h
        if side < SIDES_OF_PORTS:
            touched.append(PortNumber(side & 0xFFFF))
        if is_local:
            port = here[port]
            touched.append(port)
        has_guest = layout.number(value, "flags") & FLOW_HAS_PEER and peer_side < SIDES_OF_TUNNELS
        if has_guest and not (is_local and peer_side == port):
            touched.append(PortNumber(peer_side))
        epoch = sum(self._epochs[each] for each in touched)
        revision = self._revision(0) + self._revision(layout.number(value, "bucket")) - 1
        return layout.changed(
            value,
            peer_side=peer_side,
            owner=owner,
            port=port,
            epoch=epoch & 0xFFFFFFFF,
            revision=revision & 0xFFFFFFFF,
        )

    def _revision(self, bucket: int) -> int:
        return int.from_bytes(self._revisions.get(u32(bucket)) or bytes(4), "little")

    def follow(self, tables: SharedTables) -> None:
        with self._lock:
            self._adoption.follow(tables)

    @property
    def follows(self) -> bool:
        return self._adoption.follows

    def settle(self) -> int:
        """Makes NAT ports and usage what the flows say, before packets use them; how many flows there are.

        Raises OSError.
        """
        with self._lock, self._aged.walking:  # a flow that is aged meanwhile would leave its NAT port behind
            is_whole = self._look()
            self._usage.zero()
            self.sessions.begin_count()
            answer = runs.run_syscall(self._settling, self._settlement.pack(only_marked=int(is_whole)))
            failed = self._settlement.number(answer, "failed")
            if failed:
                log.warning("tables have no room for all NAT ports of the other instance", missing=failed)
            return self._settlement.number(answer, "flows")

    def _look(self) -> bool:
        """Copies everything from the other engine's tables, if they are open; no flow but the marked ones counts then.

        What was received stays as it is if that fails.
        """
        if not self._adoption.follows:
            return False
        try:
            there = self._adoption.look()
            self._receive_macs(there.guests)
            self._adoption.adopt(there, self._here(there.guests), missing_only=False)
        except OSError as error:
            log.warning("the other instance's tables could not be read", error=str(error))
            return False
        self._unplaced.clear()
        self._aged.bump(0)
        return True

    def catch_up(self) -> int:
        """Adds what is missing, while packets use the tables. Raises OSError."""
        with self._lock:
            if not self._adoption.follows:
                return 0
            try:
                there = self._adoption.look()
                here = self._here(there.guests)
                known = {number for number, guest in self.guests().items() if guest.mac}
                self._receive_macs({each: guest for each, guest in there.guests.items() if here.get(each) not in known})
                with self._aged.walking:
                    return self._adoption.adopt(there, here, missing_only=True)
            finally:
                self._adoption.leave()
