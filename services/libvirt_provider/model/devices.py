"""Disks and network interfaces of a domain as XML elements."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from services.libvirt_provider.model import naming


@dataclass(frozen=True)
class FileSource:
    """A raw file on the host."""

    path: Path


@dataclass(frozen=True)
class RbdSource:
    """A RADOS block device, opened by QEMU itself. The secrets are libvirt's, by UUID."""

    image: str
    monitors: Sequence[tuple[str, int]]
    user: str
    key_secret: uuid.UUID
    passphrase_secret: uuid.UUID | None
    cache: str


@dataclass(frozen=True)
class Disk:
    """A virtio disk. `identity` ends its serial; `handle` is reported to the client."""

    volume: str
    device: str
    identity: str
    source: FileSource | RbdSource
    handle: str

    def element(self) -> Element:
        """The <disk>."""
        network = isinstance(self.source, RbdSource)
        disk = Element("disk", type="network" if network else "file", device="disk")
        driver = SubElement(disk, "driver", name="qemu", type="raw", discard="unmap")
        if isinstance(self.source, RbdSource):
            driver.set("cache", self.source.cache)
            _rbd(disk, self.source)
        else:
            SubElement(disk, "source", file=str(self.source.path))
        SubElement(disk, "target", dev=naming.disk_target(self.device), bus="virtio")
        SubElement(disk, "serial").text = naming.disk_serial(self.device, self.identity)
        SubElement(disk, "alias", name=naming.volume_alias(self.volume))
        return disk


def _rbd(disk: Element, rbd: RbdSource) -> None:
    source = SubElement(disk, "source", protocol="rbd", name=rbd.image)
    for host, port in rbd.monitors:
        SubElement(source, "host", name=host, port=str(port))
    auth = SubElement(source, "auth", username=rbd.user)
    SubElement(auth, "secret", type="ceph", uuid=str(rbd.key_secret))
    if rbd.passphrase_secret is not None:
        encryption = SubElement(source, "encryption", format="luks2", engine="librbd")
        SubElement(encryption, "secret", type="passphrase", uuid=str(rbd.passphrase_secret))


@dataclass(frozen=True)
class Tap:
    """A TAP device that somebody else made and keeps."""

    name: str


@dataclass(frozen=True)
class PciDevice:
    """A virtual function passed through; hexadecimal numbers without prefix, as lspci prints them."""

    domain: str
    bus: str
    slot: str
    function: str


@dataclass(frozen=True)
class UserNetwork:
    """QEMU's own NAT, no link to any network of ours."""


@dataclass(frozen=True)
class LibvirtNetwork:
    """A network that libvirt knows by name."""

    name: str


Backing = Tap | PciDevice | UserNetwork | LibvirtNetwork


@dataclass(frozen=True)
class Nic:
    """A network interface of the guest. `handle` is reported to the client."""

    name: str
    mac: str
    backing: Backing
    handle: str

    def element(self) -> Element:
        """The <interface>, or <hostdev> for a virtual function."""
        match self.backing:
            case PciDevice() as pci:
                return self._hostdev(pci)
            case Tap(name):
                nic = Element("interface", type="ethernet")
                # managed="no": the device exists and stays when the guest goes.
                SubElement(nic, "target", dev=name, managed="no")
            case UserNetwork():
                nic = Element("interface", type="user")
            case LibvirtNetwork(name):
                nic = Element("interface", type="network")
                SubElement(nic, "source", network=name)
        SubElement(nic, "mac", address=self.mac)
        SubElement(nic, "model", type="virtio")
        SubElement(nic, "alias", name=naming.nic_alias(self.name))
        return nic

    def _hostdev(self, pci: PciDevice) -> Element:
        hostdev = Element("hostdev", mode="subsystem", type="pci", managed="yes")
        numbers = {
            "domain": f"0x{pci.domain.zfill(4)}",
            "bus": f"0x{pci.bus.zfill(2)}",
            "slot": f"0x{pci.slot.zfill(2)}",
            "function": f"0x{pci.function}",
        }
        SubElement(SubElement(hostdev, "source"), "address", numbers)
        SubElement(hostdev, "alias", name=naming.nic_alias(self.name))
        return hostdev


def same_backing(element: Element, backing: Backing) -> bool:
    """Whether a live device has this backing (a live one has more attributes than we wrote)."""
    match backing:
        case PciDevice() as pci:
            address = element.find("source/address")
            wanted = [pci.domain, pci.bus, pci.slot, pci.function]
            found = [] if address is None else [address.get(key) for key in ("domain", "bus", "slot", "function")]
            return [int(value, 16) for value in wanted] == [int(value or "0", 16) for value in found]
        case Tap(name):
            target = element.find("target")
            return element.get("type") == "ethernet" and target is not None and target.get("dev") == name
        case UserNetwork():
            return element.get("type") == "user"
        case LibvirtNetwork(name):
            source = element.find("source")
            return element.get("type") == "network" and source is not None and source.get("network") == name
