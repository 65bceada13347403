"""The way of a machine from `kubectl apply` to the first ping, as stages that a view of the cluster shows. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ferrite.dev.observe import View

PEER_PING: Final = r"ping (\S+) ok ([0-9.]+) ms"

# Says what a stage came to; empty while it has not been reached.
Look = Callable[[View, str], str]


@dataclass(frozen=True)
class Stage:
    """One stage: who is at work, what it reaches, and how that is seen."""

    actor: str
    title: str
    look: Look


def _accepted(view: View, name: str) -> str:
    return "stored in etcd" if name in view.machines else ""


def _scheduled(view: View, name: str) -> str:
    machine = view.machines.get(name)
    return machine.spec.machine_pool_ref.name if machine is not None else ""


def _address(view: View, name: str) -> str:
    prefix = view.prefixes.get(f"{name}-blue-0")
    return str(prefix.spec.prefix) if prefix is not None and prefix.status.phase == "Allocated" else ""


def _volume(view: View, name: str) -> str:
    machine = view.machines.get(name)
    if machine is None:
        return ""
    if not any(volume.HasField("ephemeral") for volume in machine.spec.volumes):
        return "none wanted"
    volume = view.volumes.get(f"{name}-data")
    if volume is None or volume.status.state != "Available":
        return ""
    return volume.status.access.volume_attributes.get("image", volume.status.access.handle)[:20]


def _created(view: View, name: str) -> str:
    machine = view.machines.get(name)
    return machine.status.machine_id.rpartition("/")[2][:12] if machine is not None else ""


def _device(view: View, name: str) -> str:
    interface = view.interface_of(name)
    if interface is None or interface.status.state != "Ready":
        return ""
    return interface.status.tap_device.name


def _running(view: View, name: str) -> str:
    machine = view.machines.get(name)
    return "domain started" if machine is not None and machine.status.state == "Running" else ""


def _booted(view: View, name: str) -> str:
    match = view.console(name, r"\[([0-9.]+)\] booted (\S+)")
    return f"Linux {match[2]}" if match else ""


def _disk(view: View, name: str) -> str:
    if _volume(view, name) == "none wanted":
        return "none wanted"
    return "written, read back" if view.console(name, r"disk vd\w written and read back") else ""


def _ping(view: View, name: str) -> str:
    match = view.console(name, PEER_PING)
    return f"{match[1]} in {match[2]} ms" if match else ""


STAGES: Final = (
    Stage("core API server", "machine accepted", _accepted),
    Stage("scheduler", "hypervisor chosen", _scheduled),
    Stage("ipam", "address allocated", _address),
    Stage("ceph_provider", "volume made", _volume),
    Stage("libvirt_provider", "machine taken over", _created),
    Stage("metalnet, dpservice", "port programmed, announced", _device),
    Stage("libvirt, QEMU", "machine running", _running),
    Stage("guest", "booted", _booted),
    Stage("guest", "Ceph disk tried", _disk),
    Stage("eBPF, IPv4 in IPv6", "first ping to the peer", _ping),
)


class Progress:
    """When each machine reached each stage, in seconds since `start`."""

    def __init__(self, machines: tuple[str, ...]) -> None:
        self.machines = machines
        self.reached: dict[tuple[int, str], tuple[float, str]] = {}

    def note(self, view: View, elapsed: float) -> list[tuple[Stage, str, str]]:
        """Takes a view and returns what is new in it: stage, machine, what it came to."""
        new = []
        for index, stage in enumerate(STAGES):
            for machine in self.machines:
                if (index, machine) not in self.reached and (seen := stage.look(view, machine)):
                    self.reached[index, machine] = (elapsed, seen)
                    new.append((stage, machine, seen))
        return new

    @property
    def is_complete(self) -> bool:
        """Whether every machine reached every stage."""
        return len(self.reached) == len(STAGES) * len(self.machines)

    def missing(self) -> list[str]:
        """Stages that are open, one phrase each."""
        return [
            f"{machine}: {stage.title}"
            for index, stage in enumerate(STAGES)
            for machine in self.machines
            if (index, machine) not in self.reached
        ]
