"""`make bench-metalbond`: what the route reflector takes in, passes on and holds, seen from its peers.

The server has a core of its own, the peers the other. Peers write prebuilt buffers and count bytes, so that they are
not the limit; `convergence` and `restart` have real clients among them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from bench.metalbond_crowd import Peer, Restarting, convergence, crowd, withdrawn
from bench.metalbond_peers import connect, count_bytes, digest, follow, routes
from bench.metalbond_server import OURS, SERVER_CORE, START_SECONDS, server
from bench.report import OUT, Report, goal, put_ahead, spread
from protos.metalbond.v1 import metalbond_pb2 as pb
from protos.metalbond.v1 import metalbond_pb2_grpc as pb_grpc
from services.metalbond.runs import Splitter, removals
from services.metalbond.wire import RouteFrame

VNI: Final = 100
MILLION: Final = 1_000_000
PEERS_CORE: Final = 1
RESTART_PEERS, RESTART_VNIS, RESTART_ROUTES = 1000, 20, 10
LOOKED_AT: Final = 5_000  # routes that every sink compares
PACED_ROUTES: Final = 100_000
GOALS: Final = {
    "accepted_per_s": (150_000, False),
    "deliveries_per_s_10": (1_000_000, False),
    "bytes_per_route": (250, True),
    "transfer_1m_s": (5, True),
    "idle_1000_cpu": (0.05, True),
    "convergence_p99_ms": (20, True),
    "restart_withdrawn": (0, True),
}
Figures = dict[str, float]
_processes = multiprocessing.get_context("spawn")


@contextmanager
def peers(work: Callable[..., None], *arguments: object) -> Iterator[Any]:
    """Peers in a process of their own, ready; yields the pipe for their orders, whose last one ends them."""
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=work, args=(*arguments, theirs), daemon=True)
    process.start()
    try:
        assert ours.poll(START_SECONDS)
        assert ours.recv()
        yield ours
        process.join(START_SECONDS)
    finally:
        process.kill()


def throughput(sinks: int, count: int, rounds: int, command: Sequence[str] = OURS) -> list[float]:
    """Routes a second from one TCP peer to all of so many subscribers, in rounds of announcing and withdrawing."""
    with server(command) as running, peers(count_bytes, running.address, [VNI], sinks, True) as orders:
        added = routes(VNI, count)
        streams = _streams(added)
        rates = []
        with closing(connect(running.address)) as source:
            for stream in _streams(added[:LOOKED_AT]):  # not for speed: every sink gets every frame once, as sent
                source.sendall(stream)
                orders.send(-len(stream))
                assert orders.recv() == [digest(stream)] * sinks, "a sink was told something else"
            for _ in range(rounds):
                for stream in streams:
                    orders.send(len(stream))
                    began = time.monotonic()
                    source.sendall(stream)
                    rates.append(count / (orders.recv() - began))
        orders.send(0)
    return rates


def _streams(added: list[bytes]) -> list[bytes]:
    return [b"".join(added), removals([RouteFrame(route) for route in added])]


def paced(count: int) -> float:
    """Routes a second to one subscriber that can't put frames together, from a table that is there."""
    with server() as running, closing(connect(running.address)) as source:
        stream = b"".join(routes(VNI, count))
        source.sendall(stream)
        with peers(count_bytes, running.address, [VNI], 1, False) as orders:
            began = time.monotonic()
            orders.send(len(stream))
            rate: float = count / (orders.recv() - began)
            orders.send(0)
    return rate


def residence(count: int) -> tuple[float, float]:
    """Bytes that a route occupies, and the seconds in which a new gRPC subscriber has all of them."""
    with server() as running, peers(count_bytes, running.address, [VNI + 1], 1, True) as orders:
        before = running.resident_bytes
        with closing(connect(running.address)) as source:
            source.sendall(b"".join(routes(VNI, count)))
            mark = routes(VNI + 1, 1)[0]
            source.sendall(mark)
            orders.send(len(mark))
            orders.recv()  # all before it is in the table
            time.sleep(1.0)
            each = (running.resident_bytes - before) / count
            took = asyncio.run(_transfer(running.door, count))
        orders.send(0)
    return each, took


async def _transfer(door: str, count: int) -> float:
    async with grpc.aio.insecure_channel(door, options=[("grpc.max_receive_message_length", 1 << 24)]) as channel:
        call = pb_grpc.RouteReflectorStub(channel).Session()
        await call.write(pb.SessionRequest(hello=pb.SessionHello(node="bench", window=16)))
        await call.read()
        began, told = time.monotonic(), 0
        await call.write(pb.SessionRequest(subscribe=VNI))
        while True:
            response = await call.read()
            if response.HasField("table_end"):
                assert told == count, f"{told} routes instead of {count}"
                return time.monotonic() - began
            told += sum(len(run.routes) for run in Splitter().feed(response.batch.updates))  # type: ignore[union-attr]
            await call.write(pb.SessionRequest(acknowledge=response.batch.sequence))


async def idle(count: int, seconds: float) -> float:
    """The share of a core that so many silent sessions take."""
    with server() as running:
        async with crowd(running.address, [Peer([VNI]) for _ in range(count)]):
            await asyncio.sleep(1.0)
            before, began = running.cpu_seconds, time.monotonic()
            await asyncio.sleep(seconds)
            return (running.cpu_seconds - before) / (time.monotonic() - began)


def converging(subscribers: int, churn_per_s: int, samples: int) -> tuple[list[float], float]:
    """Seconds until a real client hears of a route, and the routes a second that each subscriber was told meanwhile."""
    size = len(routes(VNI, 1)[0]) + 1  # half of them are removals, two bytes longer
    with server() as running, peers(follow, running.address, VNI, subscribers - 1) as orders:
        began = time.monotonic()
        took = asyncio.run(
            convergence(running.address, running.door, vni=VNI, churn_per_s=churn_per_s, samples=samples)
        )
        orders.send("stop")
        rate = orders.recv() / size / (subscribers - 1) / (time.monotonic() - began)
    return took, rate


async def restart(count: int, vnis: int, each: int) -> tuple[int, float]:
    """Routes that peers lose sight of when the server is killed and started again, and seconds until all are told."""
    seen: list[int] = []
    with server() as running:
        group = Restarting(running.address, peers=count, vnis=vnis, routes_each=each)
        tasks = [asyncio.create_task(group.run())]
        tasks += [asyncio.create_task(withdrawn(running.door, [VNI + n], seen)) for n in range(vnis // 2)]
        async with asyncio.timeout(120):
            await group.complete()
            running.kill()
            await group.gone()
            began = time.monotonic()
            await asyncio.to_thread(running.begin)
            took = await group.complete() - began
        await asyncio.sleep(20.0)  # clients let go of what wasn't told again after their settle time, of 15 s
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return group.total_removed() + len(seen), took


def against(command: str, count: int) -> tuple[float, float]:
    """Routes a second through our server and through another one, windows of a thousand, which the other survives."""
    rates = []
    other = [*command.split(), "server", "--listen", "{listen}"]
    for which in (OURS, other):
        with server(which) as running, peers(count_bytes, running.address, [VNI], 1, which is OURS) as orders:
            with closing(connect(running.address)) as source:
                began = time.monotonic()
                for first in range(0, count, 1000):
                    stream = b"".join(routes(VNI, 1000, first=first))
                    orders.send(len(stream))
                    source.sendall(stream)
                    orders.recv()
                rates.append(count / (time.monotonic() - began))
            orders.send(0)
    return rates[0], rates[1]


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="figures whose name contains this; nothing is written")
    parser.add_argument("--curves", action="store_true", help="cost against peers, routes and VNIs as well")
    parser.add_argument("--against", default=os.environ.get("METALBOND_BINARY", ""), help="another server's binary")
    wanted = parser.parse_args()
    os.sched_setaffinity(0, {PEERS_CORE})
    put_ahead(Path("/proc/self"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report = Report("metalbond", "make bench-metalbond", "figure", "value", "spread", "how", "goal")
    figures: Figures = {}

    def row(name: str, value: float, how: str, values: Sequence[float] = ()) -> None:
        figures[name] = value
        limit = GOALS.get(name)
        report.row(
            name, value, spread(values) if values else "", how, goal(value, limit[0], at_most=limit[1]) if limit else ""
        )

    for name, measure in _MEASURES.items():
        if wanted.only in name:
            measure(row)
    if wanted.against:
        ours, theirs = against(wanted.against, 50_000)
        row("windowed_per_s", ours, "50,000 routes, a thousand at a time, one subscriber")
        row("windowed_other_per_s", theirs, "the same through the other server")
        row("windowed_ratio", ours / theirs, "ours to the other's")
    report.notes.append(f"server on core {SERVER_CORE}, all peers on core {PEERS_CORE}, both before other sessions")
    report.finish(figures, write=not wanted.only)
    if wanted.curves:
        curves()


Row = Callable[..., None]


def _accepted(row: Row) -> None:
    rates = throughput(1, 300_000, 3)
    row("accepted_per_s", statistics.median(rates), "300,000 routes, TCP, one subscriber; announce, withdraw", rates)


def _deliveries(row: Row) -> None:
    rates = [10 * rate for rate in throughput(10, 300_000, 3)]
    row("deliveries_per_s_10", statistics.median(rates), "the same, ten subscribers", rates)


def _paced(row: Row) -> None:
    rates = [paced(PACED_ROUTES) for _ in range(3)]
    row("paced_per_s", statistics.median(rates), "100,000 routes to a TCP peer that can't put frames together", rates)


def _residence(row: Row) -> None:
    each, took = residence(MILLION)
    row("bytes_per_route", each, "a million IPv4 routes of one peer, resident memory")
    row("transfer_1m_s", took, "a million routes to a new gRPC subscriber that decodes them")


def _idle(row: Row) -> None:
    row("idle_1000_cpu", asyncio.run(idle(1000, 20.0)), "cores; 1,000 TCP sessions, keepalives each 5 s")


def _converging(row: Row) -> None:
    took, rate = converging(100, 10_000, 400)
    milliseconds = sorted(1000 * seconds for seconds in took)
    row(
        "convergence_p99_ms",
        milliseconds[int(len(took) * 0.99)],
        f"announce to callback, 100 subscribers, {rate:.0f} changes/s",
        milliseconds,
    )
    row("convergence_p50_ms", statistics.median(milliseconds), "")


def _restart(row: Row) -> None:
    gone, took = asyncio.run(restart(RESTART_PEERS, RESTART_VNIS, RESTART_ROUTES))
    row("restart_withdrawn", gone, "routes; 1,000 TCP peers and 10 real clients, kill -9")
    row("restart_seconds", took, "until all were told everything again, reconnecting after 0.25 to 0.75 s")


_MEASURES: Final = {
    "accepted_per_s": _accepted,
    "deliveries_per_s_10": _deliveries,
    "paced_per_s": _paced,
    "bytes_per_route transfer_1m_s": _residence,
    "idle_1000_cpu": _idle,
    "convergence_p99_ms": _converging,
    "restart_withdrawn": _restart,
}


def curves() -> None:
    """Cost against peers, routes and VNIs, for the plots."""
    found: dict[str, list[tuple[float, float]]] = {"peers": [], "routes": [], "vnis": []}
    for sinks in (1, 10, 50, 100, 200):
        found["peers"].append((sinks, statistics.median(throughput(sinks, 100_000, 2)) * sinks))
    for count in (10_000, 100_000, 300_000, MILLION):
        found["routes"].append((count, residence(count)[1]))
    for vnis in (1, 10, 100, 1000):
        found["vnis"].append((vnis, _spread_over(vnis, 200_000)))
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "metalbond-curves.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"  written to {path}")


def _spread_over(vnis: int, count: int) -> float:
    """Routes a second of so many VNIs in turn to one subscriber of them all."""
    with server() as running, peers(count_bytes, running.address, list(range(VNI, VNI + vnis)), 1, True) as orders:
        each = [routes(VNI + vni, count // vnis) for vni in range(vnis)]
        stream = b"".join(route for turn in zip(*each, strict=True) for route in turn)
        with closing(connect(running.address)) as source:
            orders.send(len(stream))
            began = time.monotonic()
            source.sendall(stream)
            rate: float = len(each) * len(each[0]) / (orders.recv() - began)
        orders.send(0)
    return rate


if __name__ == "__main__":
    main()
