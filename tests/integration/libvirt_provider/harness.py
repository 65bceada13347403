"""The provider as a process, a client with the waits that tests need, and what a killed run leaves."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt

from ferrite.dev.libvirtd import sweep_libvirtd
from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from tests.support.eventually import eventually
from tests.support.processes import start

PREFIX = "ft-lv-"
# Short: the socket's path must fit a sockaddr_un.
BASE = Path("/tmp")
CLASSES = """\
- metadata: {name: tiny}
  capabilities: {cpu: "1", memory: 96Mi}
- metadata: {name: large}
  capabilities: {cpu: 500m, memory: 2Gi}
"""
# An emulated guest needs 5 s, and much more on a machine that is busy with other things.
BOOT_SECONDS = 120.0


def sweep() -> None:
    """Ends and removes what a killed run left; a run that is still going on keeps its things."""
    for directory in BASE.glob(f"{PREFIX}*"):
        owner = directory / "owner"
        if owner.exists() and Path(f"/proc/{owner.read_text()}").exists():
            continue
        sweep_libvirtd(directory / "hv")
        subprocess.run(["ip", "netns", "del", directory.name], check=False, capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)


@dataclass
class Provider:
    """The provider as a process that can be killed and started again."""

    directory: Path
    uri: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def address(self) -> str:
        return f"unix:{self.directory}/iri.sock"

    async def listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.address.removeprefix("unix:")) == 0

    def start(self) -> None:
        command = [sys.executable, "-m", "services.libvirt_provider", "serve"]
        command += ["--listen", self.address, "--libvirt-uri", self.uri, "--state-dir", str(self.state)]
        command += ["--machine-classes", str(self.directory / "classes.yaml"), *self.arguments]
        self.process = start(command, self.directory / "provider.log")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(15)

    def log(self) -> str:
        return (self.directory / "provider.log").read_text(errors="replace")


@dataclass
class Runtime:
    """A client of the provider, with the waits that tests need."""

    provider: Provider
    stub: Any
    created: list[str] = field(default_factory=list)

    async def create(self, machine: pb.Machine) -> str:
        answer = await self.stub.CreateMachine(pb.CreateMachineRequest(machine=machine))
        self.created.append(answer.machine.metadata.id)
        return self.created[-1]

    async def get(self, machine_id: str) -> pb.Machine | None:
        wanted = pb.ListMachinesRequest(filter=pb.MachineFilter(id=machine_id))
        machines = (await self.stub.ListMachines(wanted)).machines
        return machines[0] if machines else None

    def console(self, machine_id: str) -> str:
        path = self.provider.state / "machines" / machine_id / "logs" / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def state(
        self, machine_id: str, wanted: pb.MachineState.ValueType, within: float = BOOT_SECONDS
    ) -> pb.Machine:
        async def reached() -> pb.Machine | None:
            machine = await self.get(machine_id)
            return machine if machine is not None and machine.status.state == wanted else None

        return await eventually(reached, within, lambda: self.console(machine_id)[-500:] + self.provider.log()[-2000:])

    async def says(self, machine_id: str, text: str, times: int = 1, within: float = BOOT_SECONDS) -> str:
        async def said() -> str | None:
            console = self.console(machine_id)
            return console if console.count(text) >= times else None

        return await eventually(said, within, lambda: self.console(machine_id)[-1500:] + self.provider.log()[-2000:])

    async def gone(self, machine_id: str, within: float = 30.0) -> None:
        async def absent() -> bool:
            return await self.get(machine_id) is None

        await eventually(absent, within, lambda: self.provider.log()[-2000:])

    async def delete(self, machine_id: str) -> None:
        await self.stub.DeleteMachine(pb.DeleteMachineRequest(machine_id=machine_id))
        await self.gone(machine_id)


def machine(image: Path | None, ignition: str = "", *, class_name: str = "tiny", **labels: str) -> pb.Machine:
    """A machine with a root disk of 8 MiB and, if given, the image to boot."""
    asked = pb.Machine()
    asked.metadata.SetInParent()
    asked.metadata.labels.update(labels)
    asked.spec.ignition_data = ignition.encode()
    setattr(asked.spec, "class", class_name)
    root = asked.spec.volumes.add(name="root", device="oda")
    root.local_disk.size_bytes = 8 << 20
    if image is not None:
        root.local_disk.image.image = f"oci-layout:{image}"
    return asked


def domains(uri: str) -> dict[str, str]:
    """Running domains: UUID to XML."""
    connection = libvirt.open(uri)
    try:
        return {domain.UUIDString(): domain.XMLDesc() for domain in connection.listAllDomains()}
    finally:
        connection.close()
