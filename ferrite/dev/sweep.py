"""Finds and removes whatever a cluster left on the machine: processes, mounts, BPF pins, namespaces, links, sockets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2 import netns as namespaces

from ferrite.dev import network
from ferrite.dev.plan import ClusterPlan
from ferrite.dev.supervisor import MARK

TERM_SECONDS = 5.0
KILL_SECONDS = 5.0
GONE_SECONDS = 5.0


def leftovers(plan: ClusterPlan) -> list[str]:
    """What of the cluster is still there, one phrase each; empty after a clean `down`."""
    found = [f"process {pid} ({_command(pid)})" for pid in _processes(plan)]
    found += [f"mount {path}" for path in _mounts(plan)]
    found += [f"namespace {member.netns}" for member in plan.members if member.netns in namespaces.listnetns()]
    with IPRoute() as root:
        names = [plan.bridge, *(member.leg for member in plan.members)]
        found += [f"link {name}" for name in names if root.link_lookup(ifname=name)]
    if plan.run.exists():
        found.append(f"directory {plan.run}")
    return found


def sweep(plan: ClusterPlan) -> None:
    """Ends the cluster's processes, politely first, and removes the rest; RuntimeError if something resists."""
    _end_processes(plan)
    for path in reversed(_mounts(plan)):
        subprocess.run(["umount", "--lazy", path], check=False, timeout=10)
    network.remove(plan)
    shutil.rmtree(plan.run, ignore_errors=True)
    deadline = time.monotonic() + GONE_SECONDS
    while left := leftovers(plan):  # links go a moment after their namespace
        if time.monotonic() > deadline:
            raise RuntimeError("could not remove: " + ", ".join(left))
        time.sleep(0.05)


def _end_processes(plan: ClusterPlan) -> None:
    for number, patience in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        deadline = time.monotonic() + patience
        for pid in _processes(plan):
            _signal(pid, number)
        while _processes(plan) and time.monotonic() < deadline:
            time.sleep(0.05)


def _processes(plan: ClusterPlan) -> list[int]:
    """Processes marked by the supervisor, and all in the cluster's namespaces (QEMU gets a clean environment)."""
    found = {pid for member in plan.members for pid in network.processes_in(member.netns)}
    mark = f"{MARK}={plan.name}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
            except OSError:
                continue  # gone meanwhile
    return sorted(pid for pid in found - {os.getpid()} if not _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _mounts(plan: ClusterPlan) -> list[str]:
    below = (f"{plan.run}/", f"{plan.state}/")
    paths = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [path for path in paths if path.startswith(below)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80]
    except OSError:
        return "gone"
