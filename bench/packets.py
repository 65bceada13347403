"""`make bench-packets`: packets from guest to guest through two hosts, against what the kernel does by itself.

Each round measures every way once, one after the other, and takes ratios within the round, so that other load on the
machine hits all alike; figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from bench.lab import Lab, build_traffic, sweep
from bench.report import Report, goal, median, spread

Rounds = list[dict[str, float]]
ROUTING, VXLAN, OVERLAY = "routing", "vxlan", "overlay"
# Traffic goes before everything else on its CPUs: short bursts with pauses leave the others alive.
PACKETS_SECONDS: Final = 0.4
STREAM_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.2
# Figure, ports, what it is divided by, goal.
PACKET_GOALS: Final = (
    ("overlay_vs_routing_veth", "veth", ROUTING, 1.1),
    ("overlay_vs_vxlan_veth", "veth", VXLAN, 2.0),
    ("overlay_vs_routing_tap", "tap", ROUTING, 1.0),
    ("overlay_vs_vxlan_tap", "tap", VXLAN, 1.8),
)
# Figure, ports, wire-like fabric, goal.
STREAM_GOALS: Final = (
    ("tcp_vs_routing_veth", "veth", False, 0.95),
    ("tcp_vs_routing_tap_wire", "tap", True, 0.8),
    ("tcp_vs_routing_tap_gso", "tap", False, 0.4),
)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="figures whose name contains this; nothing is written")
    wanted = parser.parse_args()
    sweep()
    build_traffic()
    report = Report("packets", "make bench-packets", "what", "ways", "median", "rounds", "ratio", "goal")
    figures: dict[str, float] = {}
    for ports in ("veth", "tap"):
        goals = [row for row in PACKET_GOALS if row[1] == ports and wanted.only in row[0]]
        if goals:
            labs = [Lab(way, ports, guests=ports == "veth") for way in (ROUTING, VXLAN, OVERLAY)]
            rounds = _measure(labs, wanted.rounds, lambda lab: lab.small_packets(PACKETS_SECONDS))
            _rows(report, f"small packets, {ports} ports, Mpps", rounds)
            for name, _, base, limit in goals:
                _figure(report, figures, name, rounds, base, limit)
    for name, ports, wire, limit in STREAM_GOALS:
        if wanted.only in name:
            labs = [Lab(way, ports, wire=wire) for way in (ROUTING, OVERLAY)]
            rounds = _measure(labs, wanted.rounds, lambda lab: lab.stream(STREAM_SECONDS))
            fabric = "wire-like fabric" if wire else "veth fabric"
            _rows(report, f"one TCP stream, {ports} guests, {fabric}, Gbit/s", rounds)
            _figure(report, figures, name, rounds, ROUTING, limit)
    report.notes.append(
        "small packets, a second of CPU time: sender, both hosts, veth sink on CPU 0; TAP reader on CPU 1"
    )
    report.notes.append("TCP: sender and its pump on CPU 0, receiver and its pump on CPU 1")
    report.finish(figures, write=not wanted.only)


def _measure(labs: Sequence[Lab], rounds: int, measure: Callable[[Lab], float]) -> Rounds:
    with ExitStack() as stack:
        for lab in labs:
            stack.enter_context(lab)
            measure(lab)  # the first connection and packets find cold caches
        return [{lab.way: _burst(lab, measure) for lab in labs} for _ in range(rounds)]


def _burst(lab: Lab, measure: Callable[[Lab], float]) -> float:
    time.sleep(PAUSE_SECONDS)
    return measure(lab)


def _rows(report: Report, what: str, rounds: Rounds) -> None:
    for way in rounds[0]:
        values = [one[way] for one in rounds]
        report.row(what, way, median(values), spread(values), "", "")


def _figure(report: Report, figures: dict[str, float], name: str, rounds: Rounds, base: str, limit: float) -> None:
    ratios = [one[OVERLAY] / one[base] for one in rounds]
    figures[name] = median(ratios)
    report.row(name, f"{OVERLAY} / {base}", "", spread(ratios), figures[name], goal(figures[name], limit))


if __name__ == "__main__":
    main()
