"""What a packet costs in both programs, with caches as under load.

Packets go through the one and the other again and again within one BPF_PROG_TEST_RUN (native/pair.bpf.c), over the
tables of a daemon that runs.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.control import load_routes
from bench.lab import ROOT, TRAFFIC, Lab, mac_of, run, within
from bench.program import FLOWS, REDIRECT, ROUTES, guest_frame, options
from bench.ways import Overlay

PAIR_COST: Final = TRAFFIC.with_name("pair_cost")
PAIR_OBJECT: Final = TRAFFIC.with_name("pair.bpf.o")
RUNS: Final = 500_000
"""Enough that each of many flows comes ten times in a burst, as it does under load: else it is the packet that prolongs
its flow, which is due every few seconds, more often than not."""
BURSTS, PAUSE_SECONDS = 5, 0.2
PROGRAMS: Final = {"hot": "one_flow", "random": "any_flow"}
OPENING: Final = "next_flow"
FIRST_SOURCE, FIRST_TARGET = 1024, 4096  # as in pair.bpf.c


def build() -> None:
    """Compiles the programs and what runs them."""
    native = ROOT / "bench" / "native"
    run("gcc", "-O2", "-Wall", "-Wextra", "-o", str(PAIR_COST), str(native / "pair_cost.c"), "-lbpf")
    machine = platform.machine()
    flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", f"-I/usr/include/{machine}-linux-gnu"]
    if machine == "x86_64":
        flags.append("-DREADS_IN_ORDER")
    run("clang", *flags, "-c", str(native / "pair.bpf.c"), "-o", str(PAIR_OBJECT))


class Pair:
    """Host 1 of a lab with its flows open."""

    def __init__(self, lab: Lab, overlay: Overlay, folder: Path) -> None:
        self._host, self._pins = lab.hosts[0], overlay.daemons[0].directory / "bpf"
        load_routes(overlay.daemons[0].channel, ROUTES)
        self._frame = folder / "frame"
        self._frame.write_bytes(guest_frame(lab, mac_of(self._host, "dtap0"), FIRST_SOURCE, FIRST_TARGET))
        self._run([OPENING, OPENING])

    def costs(self, order: str, rounds: int) -> list[float]:
        """Nanoseconds of encapsulation and decapsulation, of each round; order: a key of PROGRAMS.

        A round's is the least of some bursts: what else the machine does, and its slow seconds, only add.
        """
        return [min(self._burst(order) for _ in range(BURSTS)) for _ in range(rounds)]

    def _burst(self, order: str) -> float:
        time.sleep(PAUSE_SECONDS)
        return self._run([PROGRAMS[order]])[0]

    def _run(self, programs: list[str]) -> list[float]:
        ifindex = json.loads(run("ip", "-n", self._host, "-j", "link", "show", "dtap0"))[0]["ifindex"]
        arguments = [PAIR_OBJECT, self._pins, str(ifindex), self._frame, str(RUNS)]
        found = []
        for line in run(*within(self._host, PAIR_COST, *arguments, *programs, cpu=0)).splitlines():
            program, took, verdict = line.split()
            if int(verdict) != REDIRECT:
                raise RuntimeError(f"{program}: the last packet had verdict {verdict}")
            found.append(float(took))
        return found


@contextmanager
def pair() -> Iterator[Pair]:
    """A host with full tables."""
    overlay = Overlay(options=options(2 * FLOWS, ROUTES))
    with tempfile.TemporaryDirectory() as folder, Lab(overlay, "veth") as lab:
        yield Pair(lab, overlay, Path(folder))
