"""What `make demo-check` checks: that what the demo shows is really so, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Callable
from typing import Final

import grpc
import rados
import rbd
from rich.console import Console
from rich.text import Text

from ferrite.dev import cluster, network
from ferrite.dev.observe import Observer, View
from ferrite.dev.plan import ClusterPlan
from ferrite.dev.services import CEPH_POOL, METALBOND_GRPC_PORT
from ferrite.dev.sweep import leftovers
from protos.metalbond.v1 import metalbond_pb2, metalbond_pb2_grpc
from services.common.grpc_client import grpc_channel

ADDRESSES: Final = {"10.0.0.1/32", "10.0.0.2/32"}
CAPTURE_PACKETS: Final = 4
CAPTURE_SECONDS: Final = 15.0
GONE_SECONDS: Final = 60.0
VOLUME_BYTES: Final = 64 << 20


class Checks:
    """Counts and prints."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.passed_count = self.failed_count = 0

    def passed(self, what: str, detail: str = "") -> None:
        """Notes a success."""
        self.passed_count += 1
        line = Text.assemble(("ok    ", "green"), what, (f"  {detail}" if detail else "", "dim"))
        self._console.print(line, soft_wrap=True)

    def failed(self, what: str, why: str) -> None:
        """Notes a failure."""
        self.failed_count += 1
        self._console.print(Text.assemble(("FAIL  ", "bold red"), f"{what}: {why}"), soft_wrap=True)

    def that(self, holds: bool, what: str, detail: str) -> None:
        """Notes either; `detail` is what was seen."""
        (self.passed if holds else self.failed)(what, detail)


async def verify(plan: ClusterPlan, observer: Observer, checks: Checks) -> None:
    """The running cluster, after the first pings."""
    view = await observer.look()
    hosts = {machine.spec.machine_pool_ref.name for machine in view.machines.values()}
    checks.that(len(hosts) == 2, "the machines run on two hypervisors", ", ".join(sorted(hosts)))
    await asyncio.to_thread(_packets_are_encapsulated, plan, checks)
    await _routes_are_distributed(plan, view, checks)
    await asyncio.to_thread(_volume_is_in_ceph, plan, view, checks)
    _kubectl_answers(plan, checks)
    restarted = {name: entry["restarts"] for name, entry in cluster.status(plan).items() if entry["restarts"]}
    checks.that(not restarted, "no process had to be restarted", json.dumps(restarted))


async def verify_deletion(plan: ClusterPlan, observer: Observer, checks: Checks) -> None:
    """After `kubectl delete`: machines, interfaces, images and domains go."""

    async def gone(what: str, left: Callable[[View], list[str]]) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        remaining = ["?"]
        while remaining and time.monotonic() < deadline:
            remaining = left(await observer.look())
            await asyncio.sleep(0.2)
        checks.that(not remaining, what, ", ".join(remaining) or "none left")

    await gone("machines are gone from the API", lambda view: sorted(view.machines))
    await gone("interfaces are gone from the net API", lambda view: sorted(view.interfaces))
    await gone("networks are gone from the net API", lambda view: sorted(view.networks))
    await gone("volumes are gone from Ceph", lambda view: _images(plan))
    await gone("guests are gone from the hypervisors", lambda view: _guests(plan))


def verify_down(plan: ClusterPlan, checks: Checks) -> None:
    """After `down`: no process, namespace, mount, pin, link."""
    left = leftovers(plan)
    checks.that(not left, "nothing is left on the machine", ", ".join(left) or "no process, namespace, mount or link")


def _packets_are_encapsulated(plan: ClusterPlan, checks: Checks) -> None:
    """Looks at the fabric itself: IPv6 packets with an IPv4 packet inside, between the two underlay prefixes."""
    capture = ["tcpdump", "-n", "-l", "-i", "any", "-c", str(CAPTURE_PACKETS), "ip6 proto 4"]
    command = ["timeout", str(CAPTURE_SECONDS), *network.enter(plan.fabric.netns, capture)]
    seen = subprocess.run(command, capture_output=True, text=True, check=False, timeout=CAPTURE_SECONDS + 5).stdout
    found = re.findall(r"IP6 (\S+) > (\S+): (?:\([^)]*\) )?IP (\S+) > (\S+): ICMP echo", seen)
    detail = f"{found[0][0]} > {found[0][1].rstrip(':')} carries {found[0][2]} > {found[0][3]}" if found else seen[:200]
    checks.that(bool(found), "pings cross the fabric as IPv4 in IPv6", detail or "no such packet")


async def _routes_are_distributed(plan: ClusterPlan, view: View, checks: Checks) -> None:
    address = f"{plan.fabric.management}:{METALBOND_GRPC_PORT}"
    async with grpc_channel(address, tls=cluster.admin_tls(plan)) as channel:
        stub = metalbond_pb2_grpc.RouteReflectorStub(channel)
        try:
            held = (await stub.ListRoutes(metalbond_pb2.ListRoutesRequest())).routes
        except grpc.aio.AioRpcError as error:
            checks.failed("metalbond has both routes", f"{error.code().name}: {error.details()}")
            return
    vnis = {int(found.spec.id) for found in view.networks.values()}
    routes = [status.route for status in held]
    found = {route.destination: route.next_hop.address for route in routes if route.vni in vnis}
    checks.that(found.keys() >= ADDRESSES, "metalbond distributed both routes", str(found))


def _volume_is_in_ceph(plan: ClusterPlan, view: View, checks: Checks) -> None:
    images = _images(plan, watched=True)
    checks.that(len(images) == 1, "one RBD image exists and a guest has it open", ", ".join(images) or "none")
    size = view.console("vm-1", r"disk vd\w (\d+) bytes serial")
    sizes = re.findall(r"disk vd\w (\d+) bytes", view.consoles.get("vm-1", ""))
    checks.that(str(VOLUME_BYTES) in sizes, "the guest sees a disk of that size", ", ".join(sizes) or str(size))


def _images(plan: ClusterPlan, *, watched: bool = False) -> list[str]:
    configuration = str(plan.state / "ceph" / "ceph.conf")
    limits = {"rados_osd_op_timeout": "10", "rados_mon_op_timeout": "10", "client_mount_timeout": "10"}
    with (
        rados.Rados(conffile=configuration, name="client.admin", conf=limits) as ceph,
        ceph.open_ioctx(CEPH_POOL) as pool,
    ):
        names = [name for name in rbd.RBD().list(pool) if name.startswith("img_")]
        if not watched:
            return names
        return [name for name in names if _is_watched(pool, name)]


def _is_watched(pool: rados.Ioctx, name: str) -> bool:
    with rbd.Image(pool, name, read_only=True) as image:
        return any(True for _ in image.watchers_list())


def _guests(plan: ClusterPlan) -> list[str]:
    found = []
    for node in plan.hypervisors:
        for pid in network.processes_in(node.netns):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    program = file.read().split(b"\0")[0]
            except OSError:
                continue
            if b"qemu-system" in program:
                found.append(f"{node.name}: qemu {pid}")
    return found


def _kubectl_answers(plan: ClusterPlan, checks: Checks) -> None:
    def kubectl(*words: str) -> str:
        command = ["kubectl", "--kubeconfig", str(plan.kubeconfig), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    table = kubectl("get", "machines")
    checks.that(table.count("Running") == 2, "kubectl get machines shows both Running", table.splitlines()[-1][:100])
    described = kubectl("describe", "machine", "vm-1")
    checks.that("Machine Pool Ref" in described, "kubectl describe shows the machine", described.splitlines()[0][:80])
    explained = kubectl("explain", "machine.spec.power")
    checks.that("power" in explained.lower(), "kubectl explain documents a field", " ".join(explained.split())[:100])
