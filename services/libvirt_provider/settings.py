"""Settings of `ferrite libvirt-provider serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from services.common.settings import ServiceSettings
from services.common.tls import TlsFiles, tls_files


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
    net_address: str = Field("", description="gRPC address of the network control plane, host:port; needed by apinet")
    net_server_name: str = Field("", description="name expected in the control plane's certificate, if not its host")
    net_tls_ca: str = Field("", description="PEM file of the authority that signs the control plane's certificate")
    net_tls_cert: str = Field("", description="PEM file of our certificate for it")
    net_tls_key: str = Field("", description="PEM file of that certificate's key")

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if not self.listen.startswith("unix:"):
            raise ValueError("listen: must be unix:/path; possession of the socket is the authority")
        if self.nic_plugin == "apinet" and not (self.node_name and self.net_address):
            raise ValueError("nic-plugin apinet needs node-name and net-address")
        self.net_tls()
        return self

    def net_tls(self) -> TlsFiles | None:
        """Our identity towards the network control plane; None = plaintext."""
        return tls_files(self.net_tls_ca, self.net_tls_cert, self.net_tls_key)
