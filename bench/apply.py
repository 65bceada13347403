"""`make bench-apply`: from `kubectl apply` of one machine to its running domain, hop by hop, on a cluster of its own.

A client watches the API servers; the moment at which it hears of a state is the state's time. Hops follow one another:
what is reached before its predecessor counts with zero, so that the hops of a machine add up to the whole.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, TypeVar

import yaml
from google.protobuf.message import Message

from bench.report import Report, ahead_of_others, goal, median, put_ahead, spread
from ferrite.dev import cluster, demo
from ferrite.dev.plan import ClusterPlan
from ferrite.dev.services import apis
from ferrite.dev.supervisor import MARK
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.net.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.client.interface import Change, Client
from services.apimachinery.client.objects import metadata_of

O = TypeVar("O", bound=Message)  # noqa: E741

PLAN: Final = ClusterPlan(
    "bench",
    Path("build/bench-cluster").resolve(),
    management=IPv4Network("10.81.0.0/24"),
    underlay=IPv6Network("fd81::/48"),
)
GOAL_SECONDS: Final = 1.5
LIMIT_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.01
# Key of the hop that ends with a state, the state, who is at work until then.
HOPS: Final = (
    ("kubectl_s", "stored", "kubectl, core API server"),
    ("schedule_s", "scheduled", "scheduler"),
    ("prepare_s", "prepared", "controllers, ipam, volumepoollet, ceph_provider: address and volume"),
    ("take_over_s", "taken over", "machinepoollet, libvirt_provider's record"),
    ("port_s", "port ready", "apinetlet, net, metalnetlet, metalnet, dpservice"),
    ("start_s", "running", "libvirt_provider, libvirt, QEMU; status back to core"),
)


class Timeline:
    """When the client heard of each state of each machine, by `time.monotonic`."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], float] = {}
        self._address_of: dict[str, str] = {}
        self.gone: set[str] = set()
        self._news = asyncio.Event()

    def note(self, machine: str, state: str) -> None:
        """The first time counts."""
        self._heard.setdefault((machine, state), time.monotonic())
        self._news.set()

    def machine(self, change: Change, machine: Machine) -> None:
        """An event of a machine."""
        name = machine.metadata.name
        if change is Change.DELETED:
            self.gone.add(name)
            self._news.set()
            return
        self.note(name, "stored")
        if machine.spec.machine_pool_ref.name:
            self.note(name, "scheduled")
        if machine.status.machine_id:
            self.note(name, "taken over")
        if machine.status.state == "Running":
            self.note(name, "running")

    def prefix(self, _: Change, prefix: Prefix) -> None:
        """An event of an address."""
        if prefix.status.phase == "Allocated":
            name = prefix.metadata.name.removesuffix("-blue-0")
            self._address_of[prefix.spec.prefix.partition("/")[0]] = name
            self.note(name, "address")

    def volume(self, _: Change, volume: Volume) -> None:
        """An event of a volume."""
        if volume.status.state == "Available":
            self.note(volume.metadata.name.removesuffix("-data"), "volume")

    def interface(self, _: Change, interface: NetworkInterface) -> None:
        """An event of the interface that libvirt_provider asks net for."""
        if interface.status.state == "Ready":
            for ip in interface.spec.ips:
                if ip in self._address_of:
                    self.note(self._address_of[ip], "port ready")

    async def wait(self, reached: Callable[[], bool], what: str) -> None:
        """Until it is true. Raises TimeoutError."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not reached():
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), deadline - time.monotonic())
            except TimeoutError:
                raise TimeoutError(f"not within {LIMIT_SECONDS:.0f} s: {what}") from None

    def has(self, machine: str, state: str) -> bool:
        """Whether the client heard of it."""
        return (machine, state) in self._heard

    def hops(self, machine: str, applied: float) -> dict[str, float]:
        """Seconds of each hop of a running machine."""
        heard = {state: at for (name, state), at in self._heard.items() if name == machine}
        heard["prepared"] = max(heard["address"], heard["volume"])
        found, before = {}, applied
        for key, state, _ in HOPS:
            reached = max(before, min(heard[state], heard["running"]))
            found[key], before = reached - before, reached
        return found


async def _follow(client: Client, kind: type[O], heard: Callable[[Change, O], None]) -> None:
    version = (await client.list(kind)).resource_version
    while True:
        async for event in client.watch(kind, resource_version=version):
            version = metadata_of(event.object).resource_version
            if event.change is not Change.BOOKMARK:
                heard(event.change, event.object)


def documents() -> Iterator[dict[str, object]]:
    """The example's."""
    yield from yaml.safe_load_all(demo.manifests(PLAN))


def manifest(name: str, address: str) -> tuple[str, str]:
    """The secret and the machine of one run: the example's first, by other names."""
    chosen = [doc for doc in documents() if isinstance(doc["metadata"], dict) and doc["metadata"]["name"] == "vm-1"]
    secret, machine = (yaml.safe_dump(doc).replace("vm-1", name) for doc in chosen)
    return secret, machine.replace("10.0.0.1/32", f"{address}/32")


async def _apply(timeline: Timeline, number: int) -> tuple[float, dict[str, float]]:
    name = f"apply-{number}"
    secret, machine = manifest(name, f"10.0.0.{10 + number}")
    await asyncio.to_thread(demo.kubectl, PLAN, "apply", "-f", "-", body=secret)
    applied = time.monotonic()
    await asyncio.to_thread(demo.kubectl, PLAN, "apply", "-f", "-", body=machine)
    states = ("running", "address", "volume", "port ready")
    await timeline.wait(lambda: all(timeline.has(name, state) for state in states), f"{name} runs")
    hops = timeline.hops(name, applied)
    await asyncio.to_thread(demo.kubectl, PLAN, "delete", "machine", name, "--wait=false")
    await timeline.wait(lambda: name in timeline.gone, f"{name} is gone")
    return sum(hops.values()), hops


async def _measure(rounds: int) -> list[tuple[float, dict[str, float]]]:
    tls = cluster.admin_tls(PLAN)
    core, net = (GrpcClient(apis(PLAN)[name].grpc, tls=tls, manager="bench") for name in ("core", "net"))
    common = [doc for doc in documents() if doc["kind"] not in ("Secret", "Machine")]
    await asyncio.to_thread(demo.kubectl, PLAN, "apply", "-f", "-", body=yaml.safe_dump_all(common))
    timeline = Timeline()
    async with asyncio.TaskGroup() as tasks:
        watches = [
            tasks.create_task(_follow(core, Machine, timeline.machine)),
            tasks.create_task(_follow(core, Prefix, timeline.prefix)),
            tasks.create_task(_follow(core, Volume, timeline.volume)),
            tasks.create_task(_follow(net, NetworkInterface, timeline.interface)),
        ]
        await asyncio.sleep(1)  # until the watches are heard
        await _apply(timeline, 0)  # brings the image to the hypervisor
        await _apply(timeline, 1)  # and to the other one, if the scheduler takes turns
        found = []
        for number in range(2, rounds + 2):
            found.append(await _apply(timeline, number))
            print(f"  {number - 1}/{rounds}: {found[-1][0]:.3f} s", flush=True)
        for watch in watches:
            watch.cancel()
    for client in (core, net):
        await client.close()
    return found


@contextmanager
def cluster_ahead_of_others() -> Iterator[None]:
    """Puts every process of the cluster before the machine's others, also those that start meanwhile (QEMU)."""
    ended = threading.Event()

    def follow() -> None:
        known: set[str] = set()
        fresh: set[str] = set()
        while not ended.wait(LOOK_SECONDS):
            there = {entry for entry in os.listdir("/proc") if entry.isdecimal()}
            # A second time, since a process may open its session a moment after it was born.
            for pid in (there - known) | (fresh & there):
                if _is_ours(Path("/proc", pid)):
                    put_ahead(Path("/proc", pid))
            fresh, known = there - known, there

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _is_ours(process: Path) -> bool:
    try:
        marked = f"{MARK}={PLAN.name}".encode() in (process / "environ").read_bytes().split(b"\0")
        return marked or bytes(PLAN.state) in (process / "cmdline").read_bytes()
    except OSError:
        return False


def main() -> None:
    """Brings a cluster up, measures, prints, writes, and takes the cluster down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--keep", action="store_true", help="use the cluster that is up, if one is, and leave it up")
    wanted = parser.parse_args()
    if not (wanted.keep and cluster.status(PLAN)):
        demo.up(PLAN)
    report = Report("apply", "make bench-apply", "what", "who is at work", "median", "rounds", "goal")
    try:
        with ahead_of_others(), cluster_ahead_of_others():
            found = asyncio.run(_measure(wanted.rounds))
    finally:
        if not wanted.keep:
            cluster.down(PLAN)
    whole = [seconds for seconds, _ in found]
    figures = {"apply_to_running_s": median(whole)}
    for key, state, actor in HOPS:
        values = [hops[key] for _, hops in found]
        figures[key] = median(values)
        report.row(f"{key}: {state}", actor, f"{figures[key]:.3f}", spread(values), "")
    total = figures["apply_to_running_s"]
    report.row("apply_to_running_s", "", f"{total:.3f}", spread(whole), goal(total, GOAL_SECONDS, at_most=True))
    report.notes.append("guests are emulated (TCG), image cached; all processes of two hypervisors share the cores")
    report.finish(figures)


if __name__ == "__main__":
    main()
