"""Settings of `ferrite libvirt-provider serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from services.apimachinery.client.connect import ServerSettings
from services.common.settings import ServiceSettings


class Settings(ServiceSettings):
    """One provider per hypervisor; it talks to one libvirt."""

    listen: str = Field(
        "unix:/var/run/iri-machineprovider.sock", description="where MachineRuntime is served: unix:/path (mode 0600)"
    )
    libvirt_uri: str = Field("qemu:///system", description="the libvirt to use")
    state_dir: Path = Field(
        Path("/var/lib/libvirt-provider"), description="folder of machine records, disks and images"
    )
    machine_classes: Path = Field(
        ..., description="YAML file: a list of objects with metadata.name and capabilities (cpu, memory, ...)"
    )
    virt_type: Literal["auto", "kvm", "qemu"] = Field(
        "auto", description="kvm, qemu (emulation), or auto: kvm if a minimal guest really runs under it"
    )
    cpu_overcommit: float = Field(1.0, gt=0, description="virtual CPUs offered per CPU of the host")
    reserved_memory: int = Field(0, ge=0, description="bytes of memory that are not offered to guests")
    shutdown_timeout: float = Field(300.0, ge=0, description="seconds between the power button and a forced end")
    root_ports: int = Field(
        30, ge=4, le=200, description="PCI ports of a guest: one for each disk and network interface, and one besides"
    )
    console_log_limit: int = Field(1 << 20, ge=4096, description="bytes of a console log, kept twice at most")
    workers: int = Field(15, ge=1, description="machines that are worked on at the same time")
    volume_cache: Literal["none", "writeback", "writethrough", "directsync", "unsafe"] = Field(
        "none", description="QEMU's cache mode of network disks"
    )
    plain_http_registries: list[str] = Field(
        [], description="image registries (host:port) that are reached without TLS"
    )
    nic_plugin: Literal["apinet", "isolated", "providernet"] = Field(
        "apinet", description="apinet (network control plane), isolated (NAT by QEMU), providernet (libvirt networks)"
    )
    node_name: str = Field("", description="this host as the network control plane knows it; needed by apinet")
    net: ServerSettings | None = Field(None, description="the network control plane; needed by apinet")

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if not self.listen.startswith("unix:"):
            raise ValueError("listen: must be unix:/path; possession of the socket is the authority")
        if self.nic_plugin == "apinet" and not (self.node_name and self.net):
            raise ValueError("nic-plugin apinet needs node-name and net.address (or net.kubeconfig)")
        return self
