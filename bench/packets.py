"""`make bench-packets`: packets from guest to guest through two hosts, against what the kernel does by itself.

The overlay has connection tracking, source checks and ten firewall rules in each direction. In each round the ways take
turns in short bursts, and a round's ratio is the median of those of bursts next to each other, so that other load on
the machine and its changes of speed hit both alike; figures are medians of the rounds, of one flow if nothing else is
said.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path as FilePath
from statistics import mean
from typing import Final

from bench.control import Churn, change_routes, interfaces_per_s, load_routes
from bench.curves import curves
from bench.lab import Lab, build_traffic, sweep
from bench.pair import build as build_pair
from bench.pair import pair
from bench.program import FLOWS, ROUTES, programs
from bench.program import build as build_program
from bench.report import Report, ahead_of_others, goal, median, spread
from bench.ways import Overlay, Path, Routing, Vxlan

Rounds = list[dict[str, list[float]]]
"""The bursts of each way, in turn."""
# Traffic goes before everything else on its CPUs: short bursts with pauses leave the others alive.
PACKETS_SECONDS: Final = 0.2
STREAM_SECONDS: Final = 0.5
PAUSE_SECONDS: Final = 0.05
TURNS: Final = 5  # bursts of each way in a round
CORES_TURNS: Final = 12  # even: as often on one core as on the other
CHURN_TURNS: Final = 12  # what is looked for is smaller than what bursts differ by
MANY_FLOWS: Final = 1024
# Figure, ports, what it is divided by, goal.
PACKET_GOALS: Final = (
    ("overlay_vs_routing_veth", "veth", "routing", 1.1),
    ("overlay_vs_vxlan_veth", "veth", "vxlan", 2.0),
    ("overlay_vs_routing_tap", "tap", "routing", 1.0),
    ("overlay_vs_vxlan_tap", "tap", "vxlan", 1.8),
)
# Figure, path, goal.
PATH_GOALS: Final = (
    ("nat_vs_nftables", Path.NAT, 1.0),
    ("vip_vs_nftables", Path.VIP, 1.0),
    ("lb_vs_nftables", Path.LB, 1.0),
)
# Figure, ports, wire-like fabric, goal.
STREAM_GOALS: Final = (
    ("tcp_vs_routing_veth", "veth", False, 0.95),
    ("tcp_vs_routing_tap_wire", "tap", True, 0.85),
    ("tcp_vs_routing_tap_gso", "tap", False, 0.4),
)
CORES_GOAL: Final = 1.8
CHURN_SECONDS: Final = 1.0
ROUTES_GOAL, INTERFACES_GOAL, CHURN_GOAL, LOAD_GOAL = 4000, 1000, 0.03, 10
MANY_ROUTES, LOADS = 1_000_000, 3
# Figure, which flow is next, goal.
PROGRAM_GOALS: Final = (("program_ns_hot", "hot", 300), ("program_ns_random", "random", 600))


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="figures whose name contains this; nothing is written")
    parser.add_argument("--curves", action="store_true", help="also cost against routes, flows, interfaces and rules")
    wanted = parser.parse_args()
    sweep()
    build_traffic()
    bench = Bench(wanted.rounds, wanted.only)
    for ports in ("veth", "tap"):
        bench.ports(ports)
    for name, path, limit in PATH_GOALS:
        bench.path(name, path, limit)
    bench.cores()
    bench.program()
    bench.control()
    for name, ports, wire, limit in STREAM_GOALS:
        bench.stream(name, ports, wire, limit)
    bench.finish()
    if wanted.curves:
        build_program()
        curves()


class Bench:
    """The table as it grows. `only`: part of the names of the wanted figures."""

    def __init__(self, rounds: int, only: str) -> None:
        self._rounds, self._only = rounds, only
        self._report = Report("packets", "make bench-packets", "what", "ways", "median", "rounds", "ratio", "goal")
        self._figures: dict[str, float] = {}

    def ports(self, ports: str) -> None:
        """Small packets over one kind of port."""
        goals = [row for row in PACKET_GOALS if row[1] == ports and self._only in row[0]]
        if not goals:
            return
        with _entered([Lab(way, ports, guests=ports == "veth") for way in (Routing(), Vxlan(), Overlay())]) as labs:
            for flows in (1, MANY_FLOWS):
                rounds = self._measure(labs, lambda lab, flows=flows: lab.small_packets(PACKETS_SECONDS, flows))
                self._rows(f"small packets, {ports} ports, {flows} flows, Mpps", rounds)
                for name, _, base, limit in goals:
                    self._figure(name if flows == 1 else f"{name}_{flows}_flows", rounds, base, limit)

    def path(self, name: str, path: Path, limit: float) -> None:
        """Small packets that are translated, against nftables."""
        if self._only in name:
            with _entered([Lab(way, "veth") for way in (Routing(path), Overlay(path))]) as labs:
                rounds = self._measure(labs, lambda lab: lab.small_packets(PACKETS_SECONDS, MANY_FLOWS))
            self._rows(f"small packets, {path.value}, {MANY_FLOWS} flows, Mpps", rounds)
            self._figure(name, rounds, "routing", limit)

    def cores(self) -> None:
        """Two senders on two cores, against one, which is on either of them in turn: they need not be alike."""
        name = "cores2_vs_1"
        if self._only not in name:
            return
        either = cycle(((0,), (1,)))
        with _entered([Lab(Overlay(), "veth")]) as (lab,):
            rounds = self._take_turns(
                {
                    "one core": lambda: lab.small_packets(PACKETS_SECONDS, MANY_FLOWS, next(either)),
                    "two cores": lambda: lab.small_packets(PACKETS_SECONDS, MANY_FLOWS, (0, 1)),
                },
                CORES_TURNS,
            )
        self._rows(f"small packets, veth ports, {MANY_FLOWS} flows a core, Mpps", rounds)
        self._figure(name, rounds, "one core", CORES_GOAL, of="two cores")

    def control(self) -> None:
        """Route changes and interfaces a second, and what packets lose while routes change."""
        if self._only in "routes_per_s churn_loss":
            with _entered([Lab(Overlay(), "veth")]) as (lab,):
                daemon = lab.way.daemons[0]
                with ahead_of_others():
                    rates = [
                        change_routes(daemon.socket, lambda seconds: seconds < CHURN_SECONDS)
                        for _ in range(self._rounds)
                    ]
                self._rate("routes_per_s", "unary route changes a second", rates, ROUTES_GOAL)
                self._churn(lab, daemon.socket)
        if self._only in "load_1m_routes_s":
            self._load()
        if self._only in "interfaces_per_s":
            with ahead_of_others():
                rates = interfaces_per_s(self._rounds)
            self._rate("interfaces_per_s", "interfaces made a second", rates, INTERFACES_GOAL)

    def _load(self) -> None:
        took = []
        for _ in range(LOADS):
            overlay = Overlay(options=[f"--routes={2 * MANY_ROUTES}"])
            with Lab(overlay, "veth"):
                took.append(load_routes(overlay.daemons[0].channel, MANY_ROUTES))
        self._figures["load_1m_routes_s"] = median(took)
        judged = goal(median(took), LOAD_GOAL, at_most=True)
        self._report.row("load_1m_routes_s", "bulk call, seconds", median(took), spread(took), "", judged)

    def program(self) -> None:
        """Nanoseconds that the programs take for a packet."""
        wanted = [row for row in PROGRAM_GOALS if self._only in row[0]]
        if not wanted:
            return
        build_pair()
        with pair() as measured:
            for name, order, limit in wanted:
                self._cost(name, f"{order}, in one test run, ns", measured.costs(order, self._rounds), limit)
        build_program()
        with programs() as single:
            for name, order, _ in wanted:
                costs = [single.cost(order) for _ in range(self._rounds)]
                self._cost(f"{name}_single", f"{order}, a test run for each packet, ns", costs)

    def _cost(self, name: str, how: str, costs: Sequence[float], limit: float | None = None) -> None:
        self._figures[name] = median(costs)
        judged = goal(median(costs), limit, at_most=True) if limit else ""
        what = f"encapsulation + decapsulation, {FLOWS} flows, {ROUTES} routes, {how}"
        self._report.row(name, what, median(costs), spread(costs), "", judged)

    def _churn(self, lab: Lab, socket: FilePath) -> None:
        """Quiet and churning bursts take turns."""

        def churning() -> float:
            with Churn(socket, ROUTES_GOAL):
                return lab.small_packets(PACKETS_SECONDS, MANY_FLOWS)

        quiet = partial(lab.small_packets, PACKETS_SECONDS, MANY_FLOWS)
        rounds = self._take_turns({"quiet": quiet, "churn": churning}, CHURN_TURNS)
        losses = [1 - ratio for ratio in _ratios(rounds, "churn", "quiet")]
        self._figures["churn_loss"] = median(losses)
        what = f"packets lost to {ROUTES_GOAL} route changes a second, {MANY_FLOWS} flows"
        judged = goal(median(losses), CHURN_GOAL, at_most=True)
        self._report.row("churn_loss", what, "", spread(losses), median(losses), judged)

    def _rate(self, name: str, what: str, rates: Sequence[float], limit: float) -> None:
        self._figures[name] = median(rates)
        self._report.row(name, what, median(rates), spread(rates), "", goal(median(rates), limit))

    def stream(self, name: str, ports: str, wire: bool, limit: float) -> None:
        """One TCP stream."""
        if self._only in name:
            with _entered([Lab(way, ports, wire=wire) for way in (Routing(), Overlay())]) as labs:
                rounds = self._measure(labs, lambda lab: lab.stream(STREAM_SECONDS))
            fabric = "wire-like fabric" if wire else "veth fabric"
            self._rows(f"one TCP stream, {ports} guests, {fabric}, Gbit/s", rounds)
            self._figure(name, rounds, "routing", limit)

    def finish(self) -> None:
        """Prints the table and writes the figures."""
        self._report.notes += [
            "small packets, a second of CPU time: sender, both hosts, veth sink on CPU 0; TAP reader on CPU 1",
            "TCP: sender and its pump on CPU 0, receiver and its pump on CPU 1",
        ]
        self._report.finish(self._figures, write=not self._only)

    def _measure(self, labs: Sequence[Lab], measure: Callable[[Lab], float]) -> Rounds:
        return self._take_turns({lab.way.name: partial(measure, lab) for lab in labs})

    def _take_turns(self, measures: Mapping[str, Callable[[], float]], turns: int = TURNS) -> Rounds:
        """Who went first in a turn goes last in the next."""
        for measure in measures.values():
            measure()  # the first connection and packets find cold caches
        rounds = []
        for _ in range(self._rounds):
            bursts: dict[str, list[float]] = {name: [] for name in measures}
            for turn in range(turns):
                for name in measures if turn % 2 else reversed(measures):
                    time.sleep(PAUSE_SECONDS)
                    bursts[name].append(measures[name]())
            rounds.append(bursts)
        return rounds

    def _rows(self, what: str, rounds: Rounds) -> None:
        for way in rounds[0]:
            values = [mean(one[way]) for one in rounds]
            self._report.row(what, way, median(values), spread(values), "", "")

    def _figure(self, name: str, rounds: Rounds, base: str, limit: float, of: str = "overlay") -> None:
        ratios = _ratios(rounds, of, base)
        self._figures[name] = median(ratios)
        self._report.row(name, f"{of} / {base}", "", spread(ratios), self._figures[name],
                         goal(self._figures[name], limit))  # fmt: skip


def _ratios(rounds: Rounds, of: str, base: str) -> list[float]:
    """Of each round, the median of the ratios of bursts next to each other."""
    return [median([a / b for a, b in zip(one[of], one[base], strict=True)]) for one in rounds]


@contextmanager
def _entered(labs: Sequence[Lab]) -> Iterator[Sequence[Lab]]:
    with ExitStack() as stack:
        yield [stack.enter_context(lab) for lab in labs]


if __name__ == "__main__":
    main()
