"""Another data plane's tables, read where they are: on the same kernel they outlive their process.

What is made in the moment before a crash reaches nobody by messages, but it is in these tables. They are opened while
the other one is alive, by their numbers, and read when it is dead.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

from services.common.logs import get_logger
from services.dpservice.engine import libbpf, runs
from services.dpservice.engine.codec import Codec, u32
from services.dpservice.engine.flows import now
from services.dpservice.engine.interface import GuestState, SharedTables
from services.dpservice.engine.sessions import SessionTransfer
from services.dpservice.guest.virtual import SERVICE_LIMIT
from services.dpservice.model.rows import PortNumber, Vni
from services.dpservice.model.underlay import UnderlayAddress

log = get_logger(__name__)

KERNEL: Final = Path("/proc/sys/kernel/random/boot_id")  # of the running kernel, the same in all its namespaces
SHARED: Final = ("flows", "ports", "guest_macs", "services", "source_ports")


@dataclass(frozen=True)
class There:
    """Guests of the other data plane, and the epochs of their ports."""

    guests: dict[PortNumber, GuestState]
    epochs: dict[PortNumber, int]


class Adoption:
    """The tables of one other data plane, and what is taken over from them. Calls raise OSError."""

    def __init__(self, loaded: libbpf.Object, codec: Codec, sessions: SessionTransfer) -> None:
        self._programs = [loaded.program(name) for name in ("adopt_flows", "adopt_sessions")]
        self._context, self._sessions = codec.layouts["adoption"], sessions
        self._port, self._mac = codec.layouts["port"], codec.layouts["guest_mac"]
        self._counterpart = codec.layouts["counterpart"]
        self._own = {name: loaded.map(name) for name in SHARED}
        self._limit = loaded.max_entries("counterparts")
        self._counterparts, self._same_services = loaded.map("counterparts"), loaded.map("same_services")
        self._others = {"flows": loaded.map("other_flows"), "source_ports": loaded.map("other_source_ports")}
        self._opened: dict[str, libbpf.Map] = {}

    def shared(self) -> SharedTables:
        """Where our own tables are."""
        return SharedTables(KERNEL.read_text().strip(), {name: own.number() for name, own in self._own.items()})

    def follow(self, tables: SharedTables) -> None:
        """Opens another data plane's tables in place of those that were opened before."""
        self.leave()
        if missing := sorted(set(SHARED) - tables.numbers.keys()):
            raise OSError(errno.EPROTO, f"it does not tell where its tables are: {', '.join(missing)}")
        if tables.kernel != KERNEL.read_text().strip():
            raise OSError(errno.EREMOTE, "its tables are on another kernel")
        try:
            for name, own in self._own.items():
                number = tables.numbers[name]
                if number == own.number():
                    raise OSError(errno.EINVAL, f"it has our own {name}")
                self._opened[name] = libbpf.open_numbered(number, own)
            for name, others in self._others.items():
                others.put_map(u32(0), self._opened[name])
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        """Lets go of them."""
        if self._opened:
            for others in self._others.values():
                others.remove(u32(0))
        for opened in self._opened.values():
            opened.close()
        self._opened.clear()

    @property
    def follows(self) -> bool:
        """Are there tables to read?"""
        return bool(self._opened)

    def look(self) -> There:
        """The guests there."""
        port, mac = self._port, self._mac
        ports, macs = self._opened["ports"].values(), self._opened["guest_macs"].values()
        guests, epochs = dict[PortNumber, GuestState](), dict[PortNumber, int]()
        for number in (PortNumber(index) for index, raw in enumerate(ports) if port.number(raw, "used")):
            raw, shown = ports[number], macs[number]
            guests[number] = GuestState(
                UnderlayAddress(IPv6Address(port.bytes(raw, "underlay"))),
                mac.bytes(shown, "address") if mac.number(shown, "known") else b"",
                port.bytes(raw, "device").rstrip(b"\0").decode(),
                Vni(port.number(raw, "vni")),
            )
            epochs[number] = port.number(raw, "epoch")
        return There(guests, epochs)

    def adopt(self, there: There, here: Mapping[PortNumber, PortNumber], *, missing_only: bool) -> int:
        """Copies flows and sessions of guests who are here, too; how many are new. `here`: our numbers of their ports.

        All of them and marked, while no packet uses the tables here; or, while packets do, those that are missing.
        """
        entries = dict.fromkeys(range(self._limit), bytes(self._counterpart.size))
        for number, own in here.items():
            entries[number] = self._counterpart.pack(port=own + 1, epoch=there.epochs[number])
        self._counterparts.put_many(b"".join(map(u32, entries)), b"".join(entries.values()))
        same = self._sessions.same_services(b"".join(self._opened["services"].values()), take_last=not missing_only)
        self._same_services.put_many(
            b"".join(map(u32, range(SERVICE_LIMIT))), b"".join(u32(index in same) for index in range(SERVICE_LIMIT))
        )
        asked, added, failed = self._context.pack(missing_only=int(missing_only), now=now()), 0, 0
        for program in self._programs:
            answer = runs.run_syscall(program, asked)
            added += self._context.number(answer, "added")
            failed += self._context.number(answer, "failed")
        if failed:
            log.warning("flows of the other instance were not taken over", count=failed)
        return added
