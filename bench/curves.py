"""What the programs cost a packet against the number of routes, flows, interfaces and firewall rules, for the plots.

Established packets come in random order over all flows; the first packet of a flow is the one that asks routes and
rules. A point is the sum of both hosts' programs, against routes that of the sending host's.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from bench.control import FIRST_ROUTE, HOP
from bench.lab import VNI, Lab, run, within
from bench.program import Programs, options
from bench.report import OUT
from bench.ways import Overlay, checked
from protos.dpdkironcore.v1 import dpdk_pb2 as pb

FLOWS: Final = 10_000  # where their number is not the question
RUNS: Final = 50_000
ROUNDS: Final = 7  # of which the least counts: what else the machine does only adds
ROUTES: Final = (100, 1_000, 10_000, 100_000, 1_000_000)
FLOW_NUMBERS: Final = (100, 1_000, 10_000, 100_000, 500_000)
INTERFACES: Final = (1, 10, 100, 1_000)
RULES: Final = (1, 10, 50, 100, 250)
Points = dict[str, list[tuple[float, float]]]


def curves() -> None:
    """Measures, and writes build/bench/packets-curves.json."""
    found: Points = {}
    for name, counts, measured in (
        ("routes", ROUTES, over_routes),
        ("flows", FLOW_NUMBERS, over_flows),
        ("interfaces", INTERFACES, between_interfaces),
        ("rules", RULES, behind_rules),
    ):
        for count in counts:
            with measured(count) as programs:
                established = min(programs.cost("random", RUNS) for _ in range(ROUNDS))
                print(f"  {count} {name}: {established:.0f} ns, first packet of a flow {programs.first_ns:.0f} ns")
                found.setdefault(name, []).append((count, established))
                found.setdefault(f"{name}-first", []).append((count, programs.first_ns))
    path = OUT / "packets-curves.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"  written to {path}")


@contextmanager
def _programs(overlay: Overlay, **wanted: Any) -> Iterator[Programs]:
    with tempfile.TemporaryDirectory() as folder, Lab(overlay, "veth") as lab:
        yield Programs(lab, overlay, Path(folder), **wanted)


@contextmanager
def over_routes(count: int) -> Iterator[Programs]:
    """Flows to addresses all over the table."""
    numbers = random.Random(1).sample(range(count), min(count, FLOWS))
    targets = [(str(IPv4Address(FIRST_ROUTE + number)), HOP.decode()) for number in numbers]
    overlay = Overlay(options=options(FLOWS, count))
    with _programs(overlay, flows=FLOWS, routes=count, targets=targets, encapsulation_only=True) as programs:
        yield programs


@contextmanager
def over_flows(count: int) -> Iterator[Programs]:
    """Between two guests."""
    with _programs(Overlay(options=options(count, 0)), flows=count, routes=0) as programs:
        yield programs


@contextmanager
def between_interfaces(count: int) -> Iterator[Programs]:
    """From one guest to so many on the other host."""
    overlay = Crowd(count)
    with tempfile.TemporaryDirectory() as folder, Lab(overlay, "veth") as lab:
        yield Programs(lab, overlay, Path(folder), flows=FLOWS, routes=0, targets=overlay.crowd)


@contextmanager
def behind_rules(count: int) -> Iterator[Programs]:
    """Both guests have so many rules in each direction, and the last one matches."""
    with _programs(Overlay(rules=count, options=options(FLOWS, 0)), flows=FLOWS, routes=0) as programs:
        yield programs


class Crowd(Overlay):
    """More guests on host 2; their devices' other ends are all in one namespace."""

    def __init__(self, count: int) -> None:
        super().__init__(rules=1, options=options(FLOWS, 0))
        self._count = count
        self.crowd: list[tuple[str, str]] = []

    def serve(self, lab: Lab, index: int) -> None:
        if index:
            space = f"{lab.name}-crowd"
            run("ip", "netns", "add", space)
            lab.undo.callback(run, "ip", "netns", "delete", space)
            batch = "".join(
                f"link add crowd{number} type veth peer name eth{number} netns {space}\n"
                for number in range(self._count)
            )
            run(*within(lab.hosts[1], "sh", "-c", f"ip -batch - <<END\n{batch}END\n"))
            self._options = [
                *self._options,
                *(f"--device=net_tap{number + 3}=crowd{number}" for number in range(self._count)),
            ]
        super().serve(lab, index)

    def connect(self, lab: Lab) -> None:
        super().connect(lab)
        for number in range(self._count):
            address = str(IPv4Address("10.0.4.0") + number)
            made = checked(self.stubs[1].CreateInterface(
                pb.CreateInterfaceRequest(interface_id=f"crowd-{number}".encode(), device_name=f"net_tap{number + 3}",
                                          vni=VNI, ipv4_config=pb.IpConfig(primary_address=address.encode())),
                timeout=5,
            ))  # fmt: skip
            self.crowd.append((address, made.underlay_route.decode()))
            self.route(0, f"{address}/32", self.crowd[-1][1])


if __name__ == "__main__":
    curves()
