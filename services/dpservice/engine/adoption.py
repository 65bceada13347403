"""Another data plane's tables, read where they are: on the same kernel they outlive their process.

What is made in the moment before a crash reaches nobody by messages, but it is in these tables. They are opened while
the other one is alive, by their numbers, and read when it is dead.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
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
from services.dpservice.model.packet_rows import Port
from services.dpservice.model.rows import PortNumber
from services.dpservice.model.underlay import UnderlayAddress

log = get_logger(__name__)

KERNEL: Final = Path("/proc/sys/kernel/random/boot_id")  # of the running kernel, the same in all its namespaces
SHARED: Final = ("flows", "ports", "guest_macs", "services", "source_ports")
PortsThere = Mapping[PortNumber, tuple[UnderlayAddress, int]]


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

    def guests(self, ports: PortsThere) -> dict[PortNumber, GuestState]:
        """What guests showed of themselves there."""
        macs, layout = self._opened["guest_macs"].values(), self._mac
        return {
            number: GuestState(
                underlay, layout.bytes(macs[number], "address") if layout.number(macs[number], "known") else b""
            )
            for number, (underlay, _) in ports.items()
        }

    def adopt(self, there: PortsThere, ports: Mapping[PortNumber, Port], *, missing_only: bool) -> int:
        """Copies flows and sessions of the ports `there` that are among ours, too; how many are new here.

        All of them and marked, while no packet uses the tables here; or, while packets do, those that are missing.
        """
        of_underlay = {port.underlay: number for number, port in ports.items()}
        unknown = bytes(self._counterpart.size)
        entries = dict.fromkeys(range(self._limit), unknown)
        for number, (underlay, epoch) in there.items():
            if underlay in of_underlay:
                entries[number] = self._counterpart.pack(port=of_underlay[underlay] + 1, epoch=epoch)
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

    def ports(self) -> PortsThere:
        """Underlay address and epoch of the ports there."""
        layout = self._port
        return {
            PortNumber(number): (
                UnderlayAddress(IPv6Address(layout.bytes(raw, "underlay"))),
                layout.number(raw, "epoch"),
            )
            for number, raw in enumerate(self._opened["ports"].values())
            if layout.number(raw, "used")
        }
