"""Does the harm, and ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ferrite.dev import cluster, network
from ferrite.dev.plan import ClusterPlan

# etcd preallocates two WAL segments of 64 MB and keeps its database below the quota.
ETCD_DISK: Final = "320m"
ETCD_QUOTA_BYTES: Final = 48 << 20
PROVIDER_DISK: Final = "64m"
COMMAND_SECONDS: Final = 30


def pids(plan: ClusterPlan, names: Iterable[str]) -> dict[str, int]:
    """Process name → pid."""
    running = cluster.status(plan)
    return {name: running[name]["pid"] for name in names}


def send(targets: Iterable[int], number: signal.Signals) -> None:
    """Signals all of them, one after the other without a pause."""
    for pid in targets:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def guests(plan: ClusterPlan, node: str) -> list[int]:
    """The QEMU processes on a hypervisor."""
    member = next(member for member in plan.hypervisors if member.name == node)
    return [pid for pid in network.processes_in(member.netns) if program(pid).startswith("qemu-system")]


def program(pid: int) -> str:
    """The name of the program that a process runs; empty when it is gone."""
    try:
        return Path(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()).name
    except OSError:
        return ""


def small_disks(plan: ClusterPlan) -> None:
    """Gives etcd and the first hypervisor's provider a small disk each, before they start; a sweep unmounts them.

    etcd also gets a small quota: it reads its settings from the environment, which it inherits from us.
    """
    os.environ["ETCD_QUOTA_BACKEND_BYTES"] = str(ETCD_QUOTA_BYTES)
    provider = plan.state / plan.hypervisors[0].name / "provider"
    for directory, size in ((plan.state / "etcd", ETCD_DISK), (provider, PROVIDER_DISK)):
        directory.mkdir(parents=True, exist_ok=True)
        kept = {file.name: file.read_bytes() for file in directory.iterdir() if file.is_file()}
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(directory)]
        subprocess.run(command, check=True, timeout=COMMAND_SECONDS)
        for name, content in kept.items():
            (directory / name).write_bytes(content)


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """No byte is left on the disk that holds the directory while the context is open."""
    ballast = directory / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while shutil.disk_usage(directory).free:
                        file.write(bytes(size))
                except OSError:
                    continue
        yield
    finally:
        ballast.unlink(missing_ok=True)


def reclaim(plan: ClusterPlan) -> None:
    """What an operator does about etcd's NOSPACE alarm: compact, defragment, disarm. Raises CalledProcessError."""
    status = etcdctl(plan, "endpoint", "status", "-w", "fields")
    revision = next(line.split(":")[1].strip() for line in status.splitlines() if line.startswith('"Revision"'))
    for words in (["compact", "--physical", revision], ["defrag"], ["alarm", "disarm"]):
        etcdctl(plan, *words)


def etcdctl(plan: ClusterPlan, *words: str) -> str:
    """What etcdctl prints. Raises CalledProcessError."""
    command = ["etcdctl", "--endpoints", f"{plan.control.ip}:2379", "--command-timeout", f"{COMMAND_SECONDS}s", *words]
    environment = os.environ | {"ETCDCTL_API": "3"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=COMMAND_SECONDS + 5
    )
    return done.stdout
