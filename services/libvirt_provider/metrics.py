"""What the machine provider tells Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.common.telemetry_metrics import Family
from services.libvirt_provider.hypervisor import Hypervisor
from services.libvirt_provider.store import MachineStore

MACHINES = Family(
    "gauge",
    "ferrite_libvirt_provider_machines",
    "Machines by state (pending, running, suspended, terminated, terminating), deleting: to be removed.",
    ("state",),
)
CONNECTED = Family("gauge", "ferrite_libvirt_provider_libvirt_connected", "1 while libvirt is connected.")


class MachineCollector(Collector):
    """Reads the store when it is asked."""

    def __init__(self, store: MachineStore, hypervisor: Hypervisor) -> None:
        self._store, self._hypervisor = store, hypervisor

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """For the Prometheus registry."""
        states = Counter(
            "deleting" if record.deleting else pb.MachineState.Name(record.machine.status.state).lower()
            for record in self._store
        )
        yield MACHINES.of({(state.removeprefix("machine_"),): count for state, count in states.items()})
        yield CONNECTED.of({(): 0 if self._hypervisor.problem() else 1})
