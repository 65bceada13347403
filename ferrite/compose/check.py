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
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from rich.console import Console

from ferrite.compose import engine
from ferrite.compose.pings import Pings
from ferrite.dev.verify import Checks

ROOT: Final = engine.ROOT
KUBECONFIG: Final = ROOT / "build" / "compose" / "kubeconfig"
EXAMPLE: Final = ROOT / "examples" / "first-machine"
MACHINES: Final = {"vm-1": "10.0.0.2", "vm-2": "10.0.0.1"}  # and whom they ping
LARGE: Final = {"ferrite/libvirtd", "ferrite/ceph"}
IMAGE_BYTES: Final = 300_000_000
BUILD_SECONDS: Final = 1800.0
UP_SECONDS: Final = 300.0
PING_SECONDS: Final = 180.0
BACK_SECONDS: Final = 60.0
SUM_SECONDS: Final = 90.0  # a guest tells a sum after each thirty pings, and pings once a second
GONE_SECONDS: Final = 90.0
TOLERATED_LOSSES: Final = 1  # the packet in flight
LOOK_SECONDS: Final = 0.5


class Failed(Exception):
    """The check can't go on; the text says what is missing."""


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
    sizes = engine.images(os.environ, "ferrite/")
    large = {name: size for name, size in sizes.items() if size > IMAGE_BYTES and name not in LARGE}
    told = ", ".join(f"{name.removeprefix('ferrite/')} {size / 1e6:.0f}" for name, size in sizes.items())
    checks.that(bool(sizes) and not large, "images are below 300 MB, but for libvirtd and Ceph", f"MB: {told}")
    begun = time.monotonic()
    cluster.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", f"{UP_SECONDS:.0f}", seconds=UP_SECONDS)
    checks.passed("docker compose up, all healthy", f"{time.monotonic() - begun:.0f} s")
    privileged = cluster.inspect("{{.Name}} {{.HostConfig.Privileged}}").splitlines()
    wrong = [line for line in privileged if not line.endswith("false")]
    checks.that(not wrong, "no container is privileged", f"{len(privileged)} containers")
    _apply(checks)
    _pings(cluster, checks)
    _kill(cluster, checks, "dpservice")
    _kill(cluster, checks, "provider")
    begun = time.monotonic()
    kubectl("delete", "-f", str(EXAMPLE), "--timeout=90s", seconds=GONE_SECONDS + 10)
    guests = cluster.guests()
    checks.that(not guests, "kubectl delete ends the guests", f"{time.monotonic() - begun:.0f} s {' '.join(guests)}")


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


@dataclass(frozen=True)
class Containers:
    """The compose project, through the docker command."""

    project: str = "ferrite"

    def compose(self, *words: str, seconds: float = 60.0) -> str:
        """`docker compose ...`; its output. Failed with what it said."""
        return _do(["docker", "compose", "--ansi", "never", "--progress", "quiet", *words], seconds)

    def exec(self, service: str, *words: str) -> str:
        """A command in a container; its output."""
        return self.compose("exec", "-T", service, *words)

    def kill(self, service: str) -> None:
        """The process dies as by a crash: `docker kill` would count as the wish that it stays away."""
        self.exec(service, "sh", "-c", "kill -KILL $(cat /proc/1/task/1/children)")

    def inspect(self, template: str, *services: str) -> str:
        """`docker inspect` of the containers of these services, or of all."""
        identities = self.compose("ps", "--all", "--quiet", *services).split()
        return _do(["docker", "inspect", "--format", template, *identities], 60.0)

    def started(self, service: str) -> str:
        """When it was started last."""
        return self.inspect("{{.State.StartedAt}}", service).strip()

    def healthy(self, service: str) -> bool:
        """What its health check says."""
        return self.inspect("{{.State.Health.Status}}", service).strip() == "healthy"

    def host(self, machine: str) -> str:
        """The hypervisor of a machine."""
        return kubectl("get", "machine", machine, "-o", "jsonpath={.spec.machinePoolRef.name}").strip()

    def console(self, machine: str) -> str:
        """What the guest said; empty before there is a console."""
        identity = kubectl("get", "machine", machine, "-o", "jsonpath={.status.machineID}").rpartition("/")[2]
        if not identity:
            return ""
        log = f"/var/lib/ferrite/machines/machines/{identity}/logs/console.log"
        return self.exec(f"{self.host(machine)}-libvirtd", "sh", "-c", f"cat {log} 2>/dev/null || true")

    def pings(self, machine: str) -> Pings:
        """What the guest's console says of its pings."""
        return Pings.read(self.console(machine))

    def guests(self) -> list[str]:
        """Hypervisor and process of every QEMU."""
        look = "for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in qemu*) echo ${p#/proc/};; esac; done"
        found = []
        for host in ("hv1", "hv2"):
            found += [f"{host}:{pid}" for pid in self.exec(f"{host}-libvirtd", "sh", "-c", look).split()]
        return found

    def down(self) -> None:
        """Removes containers, volumes and networks; images stay."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", seconds=180.0)
        KUBECONFIG.unlink(missing_ok=True)

    def leftovers(self) -> list[str]:
        """Containers, volumes and networks of the project."""
        label = f"label=com.docker.compose.project={self.project}"
        found = []
        for kind, command in (("container", "ps -aq"), ("volume", "volume ls -q"), ("network", "network ls -q")):
            found += [f"{kind} {name}" for name in _do(["docker", *command.split(), "-f", label], 60.0).split()]
        return found

    def save_logs(self) -> None:
        """For whoever wants to know why: build/compose/containers.log."""
        path = ROOT / "build" / "compose" / "containers.log"
        path.write_text(self.compose("ps", "--all") + self.compose("logs", "--no-color", "--timestamps"))
        print(f"logs are in {path}")


def kubectl(*words: str, seconds: float = 60.0) -> str:
    """kubectl as administrator, through the published port; its output. Failed with what it said."""
    return _do(["kubectl", "--kubeconfig", str(KUBECONFIG), *words], seconds)


def _do(command: list[str], seconds: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:8])}: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout


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
