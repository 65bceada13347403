"""`make compose-check`: builds, starts, uses and harms the cluster of docker-compose.yml, and takes it down again.

Each check is against the running containers through what a person has: docker compose, kubectl, a guest's console.
Without a reachable engine it starts one of its own (engine.py) and runs itself again in that engine's namespace.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from rich.console import Console

from ferrite.compose import engine
from ferrite.compose.containers import ROOT, Containers, Failed, kubectl
from ferrite.compose.pings import Pings
from ferrite.dev.verify import Checks

EXAMPLE: Final = ROOT / "examples" / "first-machine"
MACHINES: Final = {"vm-1": "10.0.0.2", "vm-2": "10.0.0.1"}  # and whom they ping
LARGE: Final = {"ferrite/libvirtd", "ferrite/ceph"}
IMAGE_BYTES: Final = 300_000_000
# Who runs as root, by role; docs/deploy.md says what for.
ROOTS: Final = {"setup", "uplinks", "libvirtd"}
# Each has a step of its own in the trace of a new machine.
TRACED: Final = (
    *("core-apiserver", "core-controllers", "machinepoollet", "libvirt-provider", "volumepoollet", "ceph-provider"),
    *("apinetlet", "net-apiserver", "metalnetlet", "metalnet-apiserver", "metalnet-agent", "dpservice"),
)
BUILD_SECONDS: Final = 1800.0
CACHED_SECONDS: Final = 60.0
UP_SECONDS: Final = 300.0
PING_SECONDS: Final = 180.0
BACK_SECONDS: Final = 60.0
SUM_SECONDS: Final = 90.0  # a guest tells a sum after each thirty pings, and pings once a second
GONE_SECONDS: Final = 90.0
TOLERATED_LOSSES: Final = 1  # the packet in flight
LOOK_SECONDS: Final = 0.5


def check(arguments: list[str]) -> int:
    """The command: 0 when every check passed."""
    started = time.monotonic()
    if not engine.reachable():
        own = engine.Engine()
        try:
            own.start()
            command = own.enter([sys.executable, "-m", "ferrite.compose", "check"])
            code = subprocess.run(command, env=os.environ | own.environment, check=False, cwd=ROOT).returncode
        finally:
            own.stop()
        left = own.leftovers()
        if left:
            print(f"FAIL  nothing is left of the engine: {', '.join(left)}")
        return code or bool(left)
    checks = Checks(Console(width=118))
    cluster = Containers()
    try:
        _run(cluster, checks)
    except Exception as failure:
        checks.failed("the check reaches its end", f"{type(failure).__name__}: {failure}")
        cluster.save_logs()
    finally:
        cluster.down()
    left = cluster.leftovers()
    checks.that(not left, "nothing is left of it", ", ".join(left) or "no container, volume or network")
    seconds = time.monotonic() - started
    print(f"compose: {checks.passed_count} checks passed, {checks.failed_count} failed in {seconds:.0f} s")
    return 1 if checks.failed_count else 0


def _run(cluster: Containers, checks: Checks) -> None:
    cluster.down()
    begun = time.monotonic()
    cluster.compose("build", "--quiet", seconds=BUILD_SECONDS)
    checks.passed("docker compose build", f"{time.monotonic() - begun:.0f} s")
    begun = time.monotonic()
    cluster.compose("build", "--quiet", seconds=BUILD_SECONDS)
    took = time.monotonic() - begun
    checks.that(took < CACHED_SECONDS, "docker compose build again finds all in its cache", f"{took:.0f} s")
    sizes = engine.images(os.environ, "ferrite/")
    large = {name: size for name, size in sizes.items() if size > IMAGE_BYTES and name not in LARGE}
    told = ", ".join(f"{name.removeprefix('ferrite/')} {size / 1e6:.0f}" for name, size in sizes.items())
    checks.that(bool(sizes) and not large, "images are below 300 MB, but for libvirtd and Ceph", f"MB: {told}")
    begun = time.monotonic()
    cluster.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", f"{UP_SECONDS:.0f}", seconds=UP_SECONDS)
    checks.passed("docker compose up, all healthy", f"{time.monotonic() - begun:.0f} s")
    _rights(cluster, checks)
    _operations(cluster, checks)
    _apply(checks)
    _pings(cluster, checks)
    _trace(cluster, checks)
    _kill(cluster, checks, "dpservice")
    _kill(cluster, checks, "provider")
    begun = time.monotonic()
    kubectl("delete", "-f", str(EXAMPLE), "--timeout=90s", seconds=GONE_SECONDS + 10)
    guests = cluster.guests()
    checks.that(not guests, "kubectl delete ends the guests", f"{time.monotonic() - begun:.0f} s {' '.join(guests)}")


def _rights(cluster: Containers, checks: Checks) -> None:
    privileged = cluster.inspect("{{.Name}} {{.HostConfig.Privileged}}").splitlines()
    wrong = [line for line in privileged if not line.endswith("false")]
    checks.that(not wrong, "no container is privileged", f"{len(privileged)} containers")
    roots = {name for name, user in cluster.users().items() if user.partition(":")[0] in ("", "0", "root")}
    needless = [name for name in roots if name.rpartition("-")[2] not in ROOTS]
    checks.that(not needless, "nobody is root without need", " ".join(needless or sorted(roots)))


def _operations(cluster: Containers, checks: Checks) -> None:
    addresses = cluster.operations()
    told = cluster.collected(list(addresses.values()))
    silent = [name for name, address in addresses.items() if told[address][0] != "ok" or not told[address][1]]
    samples = sum(count for _, count in told.values())
    checks.that(
        not silent,
        "each service serves /healthz and /metrics",
        " ".join(silent) or f"{len(told)} services, {samples} samples",
    )


def _trace(cluster: Containers, checks: Checks) -> None:
    """One trace leads from kubectl apply through all services."""
    tree = cluster.trace("machine/vm-1")
    missing = [name for name in TRACED if name not in tree]
    said = f"{' '.join(missing)} missing in: {tree[:300]}" if missing else tree.splitlines()[0].strip()
    checks.that(not missing, "one trace leads from kubectl apply through all services", said)


def _apply(checks: Checks) -> None:
    _wait("pools and nodes are ready", _ready, UP_SECONDS)
    applied = kubectl("apply", "-f", str(EXAMPLE)).splitlines()
    checks.that(len(applied) >= len(MACHINES), "kubectl apply", f"{len(applied)} objects")


def _ready() -> str:
    """Pools that machines and volumes can be scheduled to; empty while something is missing."""
    pools = json.loads(kubectl("get", "machinepools", "-o", "json"))["items"]
    volumes = json.loads(kubectl("get", "volumepools", "-o", "json"))["items"]
    nodes = json.loads(kubectl("--context", "net", "get", "nodes.core.apinet.ironcore.dev", "-o", "json"))["items"]
    ready = [pool["metadata"]["name"] for pool in pools if _condition(pool, "Ready")]
    stored = [pool for pool in volumes if pool.get("status", {}).get("state") == "Available"]
    return " ".join(ready) if len(ready) == len(nodes) == len(MACHINES) and stored else ""


def _condition(obj: dict[str, Any], name: str) -> bool:
    conditions = obj.get("status", {}).get("conditions", [])
    return any(found["type"] == name and found["status"] == "True" for found in conditions)


def _pings(cluster: Containers, checks: Checks) -> None:
    begun = time.monotonic()
    for machine, peer in MACHINES.items():
        answer = _wait(f"{machine} pings", partial(_first_answer, cluster, machine), PING_SECONDS)
        checks.passed(f"{machine} pings {peer}", f"{answer} after {time.monotonic() - begun:.0f} s")
    hosts = {machine: cluster.host(machine) for machine in MACHINES}
    checks.that(len(set(hosts.values())) == 2, "the machines run on two hypervisors", str(hosts))
    # The first disk is the local one.
    disk = re.search(r"disk vd[b-z] written and read back", cluster.console("vm-1"))
    checks.that(
        disk is not None, "vm-1 wrote to its Ceph volume and read it back", disk.group() if disk else "it did not"
    )


def _first_answer(cluster: Containers, machine: str) -> str:
    return f"{answer} ms" if (answer := cluster.pings(machine).first_answer) else ""


def _next_sum(cluster: Containers, machine: str) -> Pings:
    """What the guest tells next of its pings."""
    told = cluster.pings(machine).sent

    def newer() -> Pings | None:
        found = cluster.pings(machine)
        return found if found.sent > told else None

    found: Pings = _wait(f"{machine} counts its pings", newer, SUM_SECONDS)
    return found


def _kill(cluster: Containers, checks: Checks, role: str) -> None:
    """The role's container on vm-1's hypervisor dies; its guest's pings go on and the container comes back."""
    machine = "vm-1"
    name = f"{cluster.host(machine)}-{role}"
    guests, before = cluster.guests(), _next_sum(cluster, machine)
    started = cluster.started(name)
    cluster.kill(name)
    begun = time.monotonic()
    _wait(f"{name} is back", lambda: cluster.started(name) != started and cluster.healthy(name), BACK_SECONDS)
    checks.passed(f"{name} was killed and came back", f"healthy after {time.monotonic() - begun:.1f} s")
    after = _next_sum(cluster, machine)
    lost, sent = after.lost - before.lost, after.sent - before.sent
    going_on = lost <= TOLERATED_LOSSES and after.answering
    checks.that(going_on, f"{machine}'s pings go on without {name}", f"{lost} of {sent} lost")
    checks.that(cluster.guests() == guests, f"no guest was restarted by the death of {name}", f"{len(guests)} guests")
    _wait("machines are Running", _running, BACK_SECONDS)
    checks.passed(f"both machines are Running after the return of {name}")


def _running() -> bool:
    machines = json.loads(kubectl("get", "machines", "-o", "json"))["items"]
    return [machine.get("status", {}).get("state") for machine in machines] == ["Running"] * len(MACHINES)


def _wait(what: str, look: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    problem = "not yet"
    while time.monotonic() < deadline:
        try:
            if seen := look():
                return seen
        except Failed as failure:  # a server may be away at this moment; the last word counts
            problem = str(failure)
        time.sleep(LOOK_SECONDS)
    raise Failed(f"{what}: not within {seconds:.0f} s: {problem}")
