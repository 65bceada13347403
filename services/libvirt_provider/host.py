"""What this host has, read from the kernel."""

from __future__ import annotations

import os
from pathlib import Path

from services.libvirt_provider.model.classes import HostResources


def host_resources(cpu_overcommit: float, reserved_memory: int) -> HostResources:
    """CPUs times the overcommitment, memory less the reserve. Raises OSError when /proc can't be read."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            memory = int(line.split()[1]) * 1024
            return HostResources(int((os.cpu_count() or 1) * cpu_overcommit), max(0, memory - reserved_memory))
    raise OSError("/proc/meminfo has no line MemTotal")


def boot_id() -> str:
    """Changes with every boot of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
