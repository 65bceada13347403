"""The compose project as a person has it: the docker command, kubectl, a guest's console."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any, Final

from ferrite.compose import engine
from ferrite.compose.pings import Pings

ROOT: Final = engine.ROOT
KUBECONFIG: Final = ROOT / "build" / "compose" / "kubeconfig"
# Read by docker-compose.yml.
TRACING: Final = {"FERRITE_TRACE_DIRECTORY": "/run/ferrite/traces"}
OPS: Final = "FERRITE_OPS_LISTEN"
# Asks each address as a collector in the same network would; prints address, what /healthz says, number of samples.
COLLECT: Final = """
import sys, urllib.request
for address in sys.argv[1:]:
    ask = lambda path: urllib.request.urlopen(f"http://{address}/{path}", timeout=10).read().decode()
    print(address, ask("healthz").strip(), sum(line.startswith("ferrite_") for line in ask("metrics").splitlines()))
"""


class Failed(Exception):
    """The check can't go on; the text says what is missing."""


@dataclass(frozen=True)
class Containers:
    """The compose project, through the docker command."""

    project: str = "ferrite"

    def compose(self, *words: str, seconds: float = 60.0) -> str:
        """`docker compose ...`; its output. Failed with what it said."""
        return _run(["docker", "compose", "--ansi", "never", "--progress", "quiet", *words], seconds)

    def exec(self, service: str, *words: str) -> str:
        """A command in a container; its output."""
        return self.compose("exec", "-T", service, *words)

    def kill(self, service: str) -> None:
        """The process dies as by a crash: `docker kill` would count as the wish that it stays away."""
        self.exec(service, "sh", "-c", "kill -KILL $(cat /proc/1/task/1/children)")

    def inspect(self, template: str, *services: str) -> str:
        """`docker inspect` of the containers of these services, or of all."""
        identities = self.compose("ps", "--all", "--quiet", *services).split()
        return _run(["docker", "inspect", "--format", template, *identities], 60.0)

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

    def operations(self) -> dict[str, str]:
        """Service → `host:port` of its operations address, as others in the project's network reach it."""
        found = {}
        services: dict[str, dict[str, Any]] = json.loads(self.compose("config", "--format", "json"))["services"]
        for name, service in services.items():
            listen = service.get("environment", {}).get(OPS)
            if listen:
                host = service.get("network_mode", "").removeprefix("service:") or name
                found[name] = f"{host}:{listen.rpartition(':')[2]}"
        return found

    def collected(self, addresses: list[str]) -> dict[str, tuple[str, int]]:
        """Address → what /healthz says, and how many samples of Ferrite's /metrics has; asked from a container."""
        told = self.exec("core-apiserver", "python3", "-c", COLLECT, *addresses)
        lines = (line.split() for line in told.splitlines())
        return {address: (health, int(samples)) for address, health, samples in lines}

    def users(self) -> dict[str, str]:
        """Service → user of its image; empty is root."""
        words = '{{index .Config.Labels "com.docker.compose.service"}}={{.Config.User}}'
        lines = (line.partition("=") for line in self.inspect(words).split())
        return {service: user for service, _, user in lines}

    def trace(self, what: str) -> str:
        """`ferrite trace`, in a container of its own that reads all services' files."""
        return self.compose("run", "--rm", "-T", "trace", what)

    def down(self) -> None:
        """Removes containers, volumes and networks; images stay."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", seconds=180.0)
        KUBECONFIG.unlink(missing_ok=True)

    def leftovers(self) -> list[str]:
        """Containers, volumes and networks of the project."""
        label = f"label=com.docker.compose.project={self.project}"
        found = []
        for kind, command in (("container", "ps -aq"), ("volume", "volume ls -q"), ("network", "network ls -q")):
            found += [f"{kind} {name}" for name in _run(["docker", *command.split(), "-f", label], 60.0).split()]
        return found

    def save_logs(self) -> None:
        """For whoever wants to know why: build/compose/containers.log."""
        path = ROOT / "build" / "compose" / "containers.log"
        path.write_text(self.compose("ps", "--all") + self.compose("logs", "--no-color", "--timestamps"))
        print(f"logs are in {path}")


def kubectl(*words: str, seconds: float = 60.0) -> str:
    """kubectl as administrator, through the published port; its output. Failed with what it said."""
    return _run(["kubectl", "--kubeconfig", str(KUBECONFIG), *words], seconds)


def _run(command: list[str], seconds: float) -> str:
    environment = os.environ | TRACING
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT, env=environment
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:8])}: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout
