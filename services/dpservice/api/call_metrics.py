"""Calls by RPC, code and duration, counted by hand: the client library's objects take a tenth of a route change."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from services.common.telemetry_metrics import Family

REQUESTS: Final = Family(
    "counter", "ferrite_dpservice_requests", "Calls by RPC and code: OK, a refusal's number, or a gRPC status.",
    ("rpc", "code"),
)  # fmt: skip
SECONDS: Final = Family("histogram", "ferrite_dpservice_request_seconds", "Time to answer a call.", ("rpc",))
BOUNDS: Final = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RpcCalls:
    """Those of one RPC. Any thread may add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: Counter[str] = Counter()
        self._slots = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def add(self, code: str, seconds: float) -> None:
        """One that has been answered."""
        slot = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._codes[code] += 1
            self._slots[slot] += 1
            self._seconds += seconds

    def figures(self) -> tuple[dict[str, int], list[int], float]:
        """How many had each code, how many lasted up to each bound, and seconds of all."""
        with self._lock:
            return dict(self._codes), list(self._slots), self._seconds


class CallMetrics(Collector):
    """Those of all RPCs, for the Prometheus registry."""

    def __init__(self) -> None:
        self._rpcs: dict[str, RpcCalls] = {}

    def of(self, rpc: str) -> RpcCalls:
        """What counts the calls of an RPC."""
        return self._rpcs.setdefault(rpc, RpcCalls())

    def collect(self) -> Iterator[Any]:
        figures = {rpc: calls.figures() for rpc, calls in sorted(self._rpcs.items())}
        yield REQUESTS.of({(rpc, code): n for rpc, (codes, _, _) in figures.items() for code, n in codes.items()})
        yield SECONDS.counted(BOUNDS, {(rpc,): (slots, total) for rpc, (_, slots, total) in figures.items()})


CALLS: Final = CallMetrics()
REGISTRY.register(CALLS)
