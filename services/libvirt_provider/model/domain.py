"""The domain XML of a machine, and what a running domain's XML says about its devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, SubElement, fromstring, indent, register_namespace, tostring

from services.libvirt_provider.model import naming
from services.libvirt_provider.model.devices import Disk, Nic

METADATA_NAMESPACE: Final = "https://github.com/ironcore-dev/libvirt-provider"
MACHINE_TYPE: Final = "q35"
IGNITION_NAME: Final = "opt/com.coreos/config"
RNG_BYTES_PER_SECOND: Final = 512

register_namespace("libvirtprovider", METADATA_NAMESPACE)


@dataclass(frozen=True)
class KernelBoot:
    """The kernel is loaded directly."""

    kernel: Path
    initramfs: Path | None
    command_line: str


@dataclass(frozen=True)
class FirmwareBoot:
    """UEFI boots the alphabetically first disk; its variables live in `nvram`."""

    nvram: Path


@dataclass(frozen=True)
class Domain:
    """All that a domain is made of. `virt_type` is kvm or qemu; `memory` in bytes; `ignition` is a file or None.

    Each disk and network interface, hot-plugged ones too, takes one of the `root_ports`; they can't be added later.
    """

    machine_id: str
    virt_type: str
    memory: int
    cpus: int
    labels: Mapping[str, str]
    boot: KernelBoot | FirmwareBoot
    ignition: Path | None
    console_log: Path
    disks: Sequence[Disk]
    nics: Sequence[Nic]
    root_ports: int


@dataclass(frozen=True)
class LiveDomain:
    """A running domain's devices by the names that the machine gives them."""

    disks: Mapping[str, Element]
    nics: Mapping[str, Element]


def domain_xml(domain: Domain) -> str:
    """The XML to create the domain from."""
    root = Element("domain", type=domain.virt_type)
    SubElement(root, "name").text = domain.machine_id
    SubElement(root, "uuid").text = domain.machine_id
    labels = SubElement(SubElement(root, "metadata"), f"{{{METADATA_NAMESPACE}}}metadata")
    SubElement(labels, f"{{{METADATA_NAMESPACE}}}irimachinelabels").text = "".join(
        f'\n"{key}": "{value}"' for key, value in sorted(domain.labels.items())
    )
    SubElement(root, "memory", unit="b").text = str(domain.memory)
    SubElement(root, "vcpu").text = str(domain.cpus)
    _boot(root, domain.boot)
    if domain.ignition is not None:
        entry = SubElement(SubElement(root, "sysinfo", type="fwcfg"), "entry", name=IGNITION_NAME)
        entry.set("file", str(domain.ignition))
    features = SubElement(root, "features")
    SubElement(features, "acpi")
    SubElement(features, "apic")
    if domain.virt_type == "kvm":
        SubElement(root, "cpu", mode="host-passthrough")
    _lifecycle(root)
    devices = SubElement(root, "devices")
    _fixed_devices(devices, domain)
    devices.extend(disk.element() for disk in domain.disks)
    devices.extend(nic.element() for nic in domain.nics)
    return xml_text(root)


def device_xml(device: Disk | Nic) -> str:
    """The XML to attach one device."""
    return xml_text(device.element())


def live_domain(xml: str) -> LiveDomain:
    """Reads a running domain's XML; devices that are not of ours are left out."""
    disks: dict[str, Element] = {}
    nics: dict[str, Element] = {}
    for device in fromstring(xml).iterfind("devices/*"):
        alias = device.find("alias")
        name = alias.get("name", "") if alias is not None else ""
        volume, nic = naming.volume_of_alias(name), naming.nic_of_alias(name)
        if device.tag == "disk" and volume is not None:
            disks[volume] = device
        elif device.tag in ("interface", "hostdev") and nic is not None:
            nics[nic] = device
    return LiveDomain(disks, nics)


def xml_text(root: Element) -> str:
    """Indented, so that people can read it."""
    indent(root)
    return tostring(root, encoding="unicode")


def _boot(root: Element, boot: KernelBoot | FirmwareBoot) -> None:
    if isinstance(boot, KernelBoot):
        os = SubElement(root, "os")
        SubElement(os, "type", arch="x86_64", machine=MACHINE_TYPE).text = "hvm"
        SubElement(os, "kernel").text = str(boot.kernel)
        if boot.initramfs is not None:
            SubElement(os, "initrd").text = str(boot.initramfs)
        if boot.command_line:
            SubElement(os, "cmdline").text = boot.command_line
        return
    os = SubElement(root, "os", firmware="efi")
    SubElement(os, "type", arch="x86_64", machine=MACHINE_TYPE).text = "hvm"
    SubElement(SubElement(os, "firmware"), "feature", enabled="no", name="secure-boot")
    SubElement(os, "nvram").text = str(boot.nvram)
    SubElement(os, "boot", dev="hd")


def _lifecycle(root: Element) -> None:
    clock = SubElement(root, "clock", offset="utc")
    SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    SubElement(clock, "timer", name="pit", tickpolicy="delay")
    SubElement(clock, "timer", name="hpet", present="no")
    SubElement(root, "on_poweroff").text = "destroy"
    SubElement(root, "on_reboot").text = "restart"
    # Not coredump-restart: nobody would collect the dumps. The machine is started again, with back-off.
    SubElement(root, "on_crash").text = "destroy"


def _fixed_devices(devices: Element, domain: Domain) -> None:
    SubElement(devices, "controller", type="pci", model="pcie-root", index="0")
    for index in range(1, domain.root_ports + 1):
        SubElement(devices, "controller", type="pci", model="pcie-root-port", index=str(index))
    SubElement(devices, "controller", type="usb", model="none")
    # An ISA port is ttyS0 for every guest from its first message on, and spares a PCI bridge.
    serial = SubElement(devices, "serial", type="pty")
    SubElement(serial, "log", file=str(domain.console_log), append="on")
    SubElement(serial, "target", type="isa-serial", port="0")
    console = SubElement(devices, "console", type="pty")
    SubElement(console, "target", type="serial", port="0")
    rng = SubElement(devices, "rng", model="virtio")
    SubElement(rng, "rate", bytes=str(RNG_BYTES_PER_SECOND), period="1000")
    SubElement(rng, "backend", model="random").text = "/dev/urandom"
    SubElement(devices, "memballoon", model="none")
