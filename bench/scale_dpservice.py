"""A million flows, a million routes, 1,024 ports on one data plane: do they work, and what memory do they take?

`python -m bench.scale_dpservice` prints a line for each with PASS or FAIL, and exits with 1 if one failed. Tables are
filled to their limits; what more there is must be refused, and counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

from tests.integration.dpservice.crowd import Crowd, crowds
from tests.integration.dpservice.lab import Lab, sweep
from tests.integration.dpservice.limits import fill_flows, fill_routes, meet

FLOWS: Final = 1_000_000
ROUTES4, ROUTES6 = 600_000, 400_000
PORTS: Final = 1024  # the most that one instance takes
TIMEOUT: Final = "--flow-timeout=300"  # nothing ends meanwhile


class Figures:
    """What a table takes when it is full, beyond what the empty daemon does."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd, self._started = crowd, time.monotonic()
        self._tables, self._process = crowd.tables(), crowd.resident()
        self.text = ""

    def take(self) -> None:
        """Now it is full."""
        seconds, crowd = time.monotonic() - self._started, self._crowd
        self.text = (
            f"{seconds:.1f} s; tables {_mib(self._tables)} before, {_mib(crowd.tables())} full; "
            f"process {_mib(self._process)}, then {_mib(crowd.resident())}"
        )


def flows(lab: Lab) -> str:
    """The flow table."""
    with crowds(lab, 3, f"--flows={FLOWS}", "--flow-quota=0", TIMEOUT) as crowd:
        figures = Figures(crowd)
        fill_flows(crowd, FLOWS, figures.take)
        return f"{FLOWS:,} flows, opened by real packets in {figures.text}"


def routes(lab: Lab) -> str:
    """The tables of routes."""
    with crowds(lab, 2, f"--routes={ROUTES4}") as crowd:
        figures = Figures(crowd)
        fill_routes(crowd, ROUTES4, ROUTES6, figures.take)
        return f"{ROUTES4:,} IPv4 and {ROUTES6:,} IPv6 routes, loaded in {figures.text}"


def ports(lab: Lab) -> str:
    """The table of ports."""
    started = time.monotonic()
    with crowds(lab, PORTS) as crowd:
        seconds = time.monotonic() - started
        figures = Figures(crowd)
        meet(crowd)
        figures.take()
        return f"{PORTS:,} ports, devices and interfaces made in {seconds:.1f} s; traffic: {figures.text}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _tried(measure: Callable[[Lab], str]) -> bool:
    lab = Lab()
    try:
        print(f"PASS {measure(lab)}", flush=True)
    except AssertionError as error:
        print(f"FAIL {measure.__name__}: {error}", flush=True)
        return False
    finally:
        lab.close()
    return True


if __name__ == "__main__":
    sweep()
    passed = [_tried(each) for each in (flows, routes, ports)]
    sys.exit(0 if all(passed) else 1)
