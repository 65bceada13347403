"""Metrics that are read when Prometheus asks, rather than kept: described once, for the registry and for the docs.

ROUTES = Family("gauge", "ferrite_metalbond_routes", "Routes by VNI.", ("vni",))

class TableCollector(Collector):
    def collect(self):
        yield ROUTES.of({("100",): 3})

with exported(TableCollector()):
    ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True)
class Family:
    """A metric's name (a counter's without `_total`), help text and labels."""

    type: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: tuple[str, ...] = ()

    def of(self, values: Mapping[tuple[str, ...], float]) -> CounterMetricFamily | GaugeMetricFamily:
        """Its samples: values by label values."""
        kind = CounterMetricFamily if self.type == "counter" else GaugeMetricFamily
        family = kind(self.name, self.help, labels=self.labels)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family

    def counted(
        self, bounds: Sequence[float], values: Mapping[tuple[str, ...], tuple[Sequence[int], float]]
    ) -> HistogramMetricFamily:
        """A histogram's samples, by label values: how many were at most each bound and above the one before, how many
        above all, and the sum of all values."""
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels, (counts, total) in values.items():
            buckets, below = [], 0
            for bound, count in zip([*map(str, bounds), "+Inf"], counts, strict=True):
                below += count
                buckets.append((bound, below))
            family.add_metric(labels, buckets, total)
        return family


@contextmanager
def exported(collector: Collector) -> Iterator[None]:
    """Lets the process's /metrics show it while the context is open."""
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)
