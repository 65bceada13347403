"""The domain XML against golden files, and its way back."""

from __future__ import annotations

import uuid
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.libvirt_provider.model import naming
from services.libvirt_provider.model.devices import (
    Backing,
    Disk,
    FileSource,
    LibvirtNetwork,
    Nic,
    PciDevice,
    RbdSource,
    Tap,
    UserNetwork,
    same_backing,
)
from services.libvirt_provider.model.domain import Domain, FirmwareBoot, KernelBoot, domain_xml, live_domain

MACHINE = "0b7f4c0e-52a3-4d8a-9d6e-2f6f5d0c1a11"
ROOT = Path("/state/machines") / MACHINE
LOCAL = Disk("root", "oda", "DAF51C8666E6C7F7", FileSource(ROOT / "disk.raw"), "local-disk/root")
RBD = RbdSource(
    image="volumes/img_1",
    monitors=(("10.0.0.1", 6789), ("fd00::1", 3300)),
    user="tenant",
    key_secret=naming.derived_uuid(f"{MACHINE}/data"),
    passphrase_secret=naming.derived_uuid(f"enc/{MACHINE}/data"),
    cache="writeback",
)
CEPH = Disk("data", "odb", "0123456789abcdef", RBD, "ceph/x")


def nic(name: str, backing: Backing) -> Nic:
    return Nic(name, naming.mac_address(MACHINE, name), backing, handle="")


EMULATED = Domain(
    machine_id=MACHINE,
    virt_type="qemu",
    memory=96 << 20,
    cpus=1,
    labels={"b": "2", "a": "<1>"},
    boot=KernelBoot(Path("/images/vmlinuz"), Path("/images/initramfs"), "console=ttyS0 quiet"),
    ignition=ROOT / "data.ign",
    console_log=ROOT / "console.log",
    disks=[LOCAL],
    nics=[nic("nic0", Tap("dtapvf_1")), nic("nic1", UserNetwork())],
    root_ports=4,
)
FIRMWARE = Domain(
    machine_id=MACHINE,
    virt_type="kvm",
    memory=4 << 30,
    cpus=4,
    labels={},
    boot=FirmwareBoot(ROOT / "nvram.fd"),
    ignition=None,
    console_log=ROOT / "console.log",
    disks=[LOCAL, CEPH],
    nics=[nic("nic0", PciDevice("0000", "3b", "02", "1")), nic("nic1", LibvirtNetwork("provider"))],
    root_ports=30,
)


@pytest.mark.parametrize(
    ("domain", "golden"),
    [
        pytest.param(EMULATED, "emulated_kernel_boot.xml", id="emulated, kernel loaded directly, TAP"),
        pytest.param(FIRMWARE, "kvm_uefi_ceph_vf.xml", id="KVM, UEFI, encrypted Ceph disk, virtual function"),
    ],
)
def test_domain_xml(domain: Domain, golden: str) -> None:
    assert domain_xml(domain) == (Path(__file__).parent / "golden" / golden).read_text().rstrip("\n")


def test_devices_are_found_again_by_name() -> None:
    live = live_domain(domain_xml(FIRMWARE))
    assert set(live.disks) == {"root", "data"}
    assert set(live.nics) == {"nic0", "nic1"}


def test_devices_of_others_are_left_out() -> None:
    live = live_domain(
        "<domain><devices><disk><alias name='virtio-disk0'/></disk><disk><alias name='ua-volume-!!!'/></disk><disk/>"
        "<interface><alias name='net0'/></interface></devices></domain>"
    )
    assert not live.disks
    assert not live.nics


BACKINGS = [Tap("tap0"), Tap("tap1"), PciDevice("0", "3b", "2", "1"), UserNetwork(), LibvirtNetwork("a")]


@pytest.mark.parametrize("there", BACKINGS, ids=str)
@pytest.mark.parametrize("wanted", BACKINGS, ids=str)
def test_a_live_interface_is_compared_by_its_backing(there: Backing, wanted: Backing) -> None:
    assert same_backing(nic("nic0", there).element(), wanted) is (there == wanted)


def test_hexadecimal_addresses_compare_as_numbers() -> None:
    live = fromstring(
        "<hostdev><source><address domain='0x0000' bus='0x3b' slot='0x02' function='0x1'/></source></hostdev>"
    )
    assert same_backing(live, PciDevice("0", "3B", "2", "1"))


@given(st.text(min_size=1, max_size=80))
def test_volume_aliases_go_both_ways(name: str) -> None:
    alias = naming.volume_alias(name)
    assert naming.volume_of_alias(alias) == name
    assert alias.isascii()
    assert alias.replace("-", "").replace("_", "").isalnum()


@given(st.uuids(), st.text(min_size=1, max_size=63))
def test_mac_addresses_are_local_unicast_and_stable(machine: uuid.UUID, name: str) -> None:
    mac = naming.mac_address(str(machine), name)
    first = int(mac.split(":")[0], 16)
    assert first & 0b11 == 0b10
    assert mac == naming.mac_address(str(machine), name)
    assert len(mac) == 17


def test_derived_names_never_change() -> None:
    """They tie running domains, libvirt's secrets and the network control plane's objects to machines."""
    assert str(naming.derived_uuid("machine/nic")) == "2478cbaa-29e7-5b71-8784-94a0d528d343"
    assert naming.local_disk_identity("machine", "root") == "91B901E8E72F42E3"
    assert naming.disk_target("oda") == "vda"
    assert naming.disk_serial("oda", "X") == "oda-X"
