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
from services.dpservice.model.packet_rows import Port
from services.dpservice.model.rows import PortNumber
from services.dpservice.model.underlay import UnderlayAddress

log = get_logger(__name__)

KERNEL: Final = Path("/proc/sys/kernel/random/boot_id")  # of the running kernel, the same in all its namespaces
SHARED: Final = ("flows", "ports", "guest_macs")
PortsThere = Mapping[PortNumber, tuple[UnderlayAddress, int]]


class Adoption:
    """The tables of one other data plane, and what is taken over from them. Calls raise OSError."""

    def __init__(self, loaded: libbpf.Object, codec: Codec) -> None:
        self._program, self._context = loaded.program("adopt_flows"), codec.layouts["adoption"]
        self._port, self._mac = codec.layouts["port"], codec.layouts["guest_mac"]
        self._counterpart = codec.layouts["counterpart"]
        self._own = {name: loaded.map(name) for name in SHARED}
        self._limit = loaded.max_entries("counterparts")
        self._others, self._counterparts = loaded.map("other_flows"), loaded.map("counterparts")
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
            self._others.put_map(u32(0), self._opened["flows"])
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        """Lets go of them."""
        if "flows" in self._opened:
            self._others.remove(u32(0))
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
        """Copies flows of the ports `there` that are among ours, too; how many are new here.

        All of them and marked, while no packet uses the tables here; or, while packets do, those that are missing.
        """
        of_underlay = {port.underlay: number for number, port in ports.items()}
        unknown = bytes(self._counterpart.size)
        entries = dict.fromkeys(range(self._limit), unknown)
        for number, (underlay, epoch) in there.items():
            if underlay in of_underlay:
                entries[number] = self._counterpart.pack(port=of_underlay[underlay] + 1, epoch=epoch)
        self._counterparts.put_many(b"".join(map(u32, entries)), b"".join(entries.values()))
        asked = self._context.pack(missing_only=int(missing_only), now=now())
        answer = runs.run_syscall(self._program, asked)
        failed = self._context.number(answer, "failed")
        if failed:
            log.warning("flows of the other instance were not taken over", count=failed)
        return self._context.number(answer, "added")

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
