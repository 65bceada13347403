"""The real programs and the reference model side by side: one call changes both, one packet is given to both."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv6Network
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

from services.dpservice.dataplane import Dataplane
from services.dpservice.engine.ebpf import EbpfEngine
from services.dpservice.engine.interface import Delivery, GuestLink, PacketSettings, UplinkState
from services.dpservice.engine.runs import run_at_tc, run_at_xdp
from services.dpservice.guest.services import GuestServices
from services.dpservice.journal import Journal
from services.dpservice.model.changes import AnyChange, Rows, apply_to, one_by_one
from services.dpservice.model.flushes import flushes
from services.dpservice.model.rows import PortNumber
from services.dpservice.model.state import Model
from services.dpservice.model.underlay import UnderlayAllocator
from tests.support.dpservice.fates import Delivered, Dropped, Fate, Passed, Tunnelled
from tests.support.dpservice.reference import Reference
from tests.support.dpservice.town import HOST
from tests.support.dpservice.world import Link, World

T = TypeVar("T")
CLONE_NEWNET: Final = 0x40000000
SHOT, REDIRECT = 2, 7
XDP_DROP, XDP_PASS = 1, 2
GUESTS: Final = ("net_tap2", "net_tap3", "net_tap4", "net_tap5")
SERVICES: Final = GuestServices()
TRUSTED: Final = (IPv6Network("fc00::/16"),)


class Trial:
    """A host in a network namespace of its own. Everything has to be called in that namespace, see `trials`."""

    def __init__(self, bpf_root: Path, folder: Path) -> None:
        self.folder, self.numbers = folder, count()
        self.engine = EbpfEngine(bpf_root, 1000)
        self.uplinks = [_tap(f"pf{n}", bytes([2, 0xBB, 0, 0, 0, n]), bytes([2, 0xCC, 0, 0, 0, n])) for n in (0, 1)]
        self.guests = [_tap(f"tap{n}", bytes([2, 0xDD, 0, 0, 0, n])) for n in range(len(GUESTS))]
        for name, link in zip(GUESTS, self.guests, strict=True):
            self.engine.set_guest_link(name, GuestLink(link.ifindex, link.mac, Delivery.REDIRECT))
        for index, link in enumerate(self.uplinks):
            self.engine.set_uplink(index, UplinkState(f"pf{index}", link.ifindex, True, link.mac, True, link.router))
        self.reset()

    def reset(self) -> None:
        """Begins anew: no rows, no flows."""
        self.model = Model(GUESTS, ["pf0", "pf1"], UnderlayAllocator(HOST, reproducible=True))
        journal = Journal(self.folder / f"{next(self.numbers)}.jsonl")
        self.dataplane = Dataplane(self.model, self.engine, journal, SERVICES)
        self.dataplane.start()
        self.configure()
        self.reference = Reference(World(HOST, self.uplinks, {}, list(TRUSTED)))

    def configure(self, *, check_sources: bool = True, flow_timeout: float = 30.0) -> None:
        """The engine's settings; the reference knows only those that are set at the beginning."""
        self.engine.configure(
            PacketSettings(HOST.packed[:8], check_sources, True, TRUSTED, HOST, flow_timeout=flow_timeout)
        )

    def call(self, mutate: Callable[[Model], Any]) -> Any:
        """Calls the API; the model's refusals pass through."""
        changes: list[AnyChange] = []

        def noted(model: Model) -> tuple[Any, list[AnyChange]]:
            answer = mutate(model)
            result, made = answer if isinstance(answer, tuple) else (None, answer)
            changes.extend(made)
            return result, made

        result = self.dataplane.change(noted)
        rows: Rows = {}
        apply_to(rows, one_by_one(self.model.rows()))
        world = self.reference.world
        world.rows = rows
        world.guests = {nic.port: self.guests[GUESTS.index(nic.device)] for nic in self.model.interfaces()}
        self.reference.follow(flushes(changes, self.model.tables))
        return result

    def from_guest(self, port: PortNumber, frame: bytes) -> tuple[Fate, Fate]:
        """What the reference says of a guest's frame, and what the programs do."""
        return self.reference.from_guest(port, frame), self.tried_from_guest(port, frame)

    def from_uplink(self, index: int, frame: bytes) -> tuple[Fate, Fate]:
        """The same for a frame from the fabric."""
        return self.reference.from_uplink(index, frame), self.tried_from_uplink(index, frame)

    def tried_from_guest(self, port: PortNumber, frame: bytes) -> Fate:
        """What the programs alone do with a guest's frame."""
        return self._run("from_guest", self.reference.world.guests[port].ifindex, frame)

    def tried_from_uplink(self, index: int, frame: bytes) -> Fate:
        """What the programs alone do with a frame from the fabric."""
        return self._run("from_uplink", self.uplinks[index].ifindex, frame)

    def tried_at_xdp(self, frame: bytes) -> tuple[Fate, bytes]:
        """What the program that unwraps early does, and what it leaves: the mark that it puts in front, if any, too."""
        before = self.engine.drops()
        verdict, after = run_at_xdp(self.engine._object.program("unwrap_early"), frame)
        counted = self._counted_since(before)
        if verdict == XDP_DROP:
            return Dropped(counted), b""
        assert verdict == XDP_PASS
        assert not counted, f"counted as dropped: {counted}"
        return Passed(), after

    def _counted_since(self, before: dict[str, int]) -> frozenset[str]:
        """The reasons of drops since then; a packet is lost once."""
        more = {reason: number - before.get(reason, 0) for reason, number in self.engine.drops().items()}
        assert sum(more.values()) <= 1, f"one packet is counted as {more}"
        return frozenset(reason.upper() for reason, number in more.items() if number)

    def _run(self, program: str, ifindex: int, frame: bytes) -> Fate:
        before = self.engine.drops()
        verdict, after = run_at_tc(self.engine._object.program(program), ifindex, frame)
        counted = self._counted_since(before)
        if verdict == SHOT:
            return Dropped(counted)
        assert not counted, f"counted as dropped: {counted}"
        if verdict != REDIRECT:
            assert after == frame
            return Passed()
        for index, link in enumerate(self.uplinks):
            if after[6:12] == link.mac:
                return Tunnelled(index, after)
        for port, link in self.reference.world.guests.items():
            if after[6:12] == link.mac:
                return Delivered(port, after)
        raise AssertionError(f"sent to nobody: {after.hex()}")


def agree(expected: Fate, found: Fate) -> bool:
    """A dropped packet has to be counted under one of the reasons that are expected."""
    if isinstance(expected, Dropped) and isinstance(found, Dropped):
        return bool(found.reasons) and found.reasons <= expected.reasons
    return expected == found


def _tap(name: str, mac: bytes, router: bytes = b"") -> Link:
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
    subprocess.run(["ip", "link", "set", name, "address", mac.hex(":"), "up"], check=True)
    return Link(socket.if_nametoindex(name), mac, router)


@contextmanager
def trials() -> Iterator[Callable[[Callable[[Trial], T]], T]]:
    """Gives a function that has another one called with a `Trial`, in the thread that is in its namespace."""
    with (
        tempfile.TemporaryDirectory(prefix="ft-bpf-") as folder,
        tempfile.TemporaryDirectory(prefix="ft-journal-") as journals,
        ThreadPoolExecutor(1) as thread,
    ):
        subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
        try:
            thread.submit(_unshare).result()
            trial = thread.submit(Trial, Path(folder), Path(journals)).result()
            yield lambda use: thread.submit(use, trial).result()
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


Run = Callable[[Callable[[Trial], None]], None]


@contextmanager
def prepared_trials(prepare: Callable[[Trial], None]) -> Iterator[Run]:
    """The same, but each function finds the `Trial` as `prepare` left it after everything else was removed."""

    def use(test: Callable[[Trial], None], trial: Trial) -> None:
        trial.reset()
        prepare(trial)
        test(trial)

    with trials() as run:
        yield lambda test: run(partial(use, test))


def _unshare() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
