"""Does KVM really work here? A host may offer /dev/kvm and yet kill each guest (nested virtualisation).

The probe boots a guest of 81 bytes, with the CPU that machines would get, through the same libvirt: a boot sector that
writes a word to the serial port. The answer holds for one boot of the host and is kept in a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from services.common.logs import get_logger
from services.libvirt_provider.host import boot_id
from services.libvirt_provider.hypervisor import Hypervisor, HypervisorError
from services.libvirt_provider.model.domain import MACHINE_TYPE, xml_text
from services.libvirt_provider.model.naming import derived_uuid
from services.libvirt_provider.model.state import RUNNING

log = get_logger(__name__)

PROBE_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.1
# The firmware ignores disks without a cylinder.
DISK_BYTES: Final = 1024 * 1024
WORD: Final = b"ferrite-kvm-works"


@dataclass(frozen=True)
class VirtType:
    """How guests run: `name` is kvm or qemu (emulated), `reason` says why."""

    name: str
    reason: str


def boot_sector() -> bytes:
    """16-bit code: writes WORD to the first serial port, with SSE and CMPXCHG8B on the way, then halts."""
    code = bytes(
        [
            0x31, 0xC0,                    # xor ax, ax
            0x8E, 0xD8,                    # mov ds, ax
            0x0F, 0x20, 0xE0,              # mov eax, cr4
            0x66, 0x0D, 0x00, 0x06, 0, 0,  # or eax, OSFXSR | OSXMMEXCPT
            0x0F, 0x22, 0xE0,              # mov cr4, eax
            0x0F, 0x57, 0xC0,              # xorps xmm0, xmm0
            0x0F, 0xC7, 0x0E, 0x00, 0x7E,  # cmpxchg8b [0x7e00]
            0xBE, 0x40, 0x7C,              # mov si, 0x7c40
            0xBA, 0xF8, 0x03,              # mov dx, 0x3f8
            0xAC,                          # next: lodsb
            0x84, 0xC0,                    # test al, al
            0x74, 0x03,                    # jz halt
            0xEE,                          # out dx, al
            0xEB, 0xF8,                    # jmp next
            0xF4,                          # halt: hlt
            0xEB, 0xFD,                    # jmp halt
        ]
    )  # fmt: skip
    return (code.ljust(0x40, b"\0") + WORD + b"\n\0").ljust(510, b"\0") + b"\x55\xaa"


async def choose_virt_type(hypervisor: Hypervisor, wanted: str, cache: Path) -> VirtType:
    """`wanted` is kvm, qemu or auto; only auto probes. Raises HypervisorLost when libvirt goes away meanwhile."""
    if wanted != "auto":
        return VirtType(wanted, "configured")
    known = _read(cache)
    if known is None:
        known = await _probe(hypervisor, cache.parent)
        await asyncio.to_thread(_write, cache, known)
    say: Callable[..., None] = log.info if known.name == "kvm" else log.warning
    say("virtualisation was chosen", virt_type=known.name, reason=known.reason)
    return known


async def _probe(hypervisor: Hypervisor, directory: Path) -> VirtType:
    if not os.path.exists("/dev/kvm"):  # noqa: ASYNC240 - a device node, no disk
        return VirtType("qemu", "KVM is not used: there is no /dev/kvm")
    problem = await run_minimal_guest(hypervisor, directory, "kvm")
    if problem:
        return VirtType("qemu", f"KVM is not used: {problem}")
    return VirtType("kvm", "a minimal guest ran under KVM")


async def run_minimal_guest(hypervisor: Hypervisor, directory: Path, virt_type: str) -> str:
    """What keeps a minimal guest of this type from running; empty when it ran. Its files live in `directory`."""
    # Always the same one here: it is also what a provider that was killed while it probed has left.
    identity = str(derived_uuid(f"kvm-probe/{directory}"))
    disk, output = directory / "kvm-probe.img", directory / "kvm-probe.log"
    await hypervisor.destroy(identity)
    output.unlink(missing_ok=True)
    await asyncio.to_thread(disk.write_bytes, boot_sector().ljust(DISK_BYTES, b"\0"))
    try:
        await hypervisor.create(_xml(virt_type, identity, disk, output))
        heard = await _hears(hypervisor, identity, output)
    except HypervisorError as error:
        return f"a minimal guest did not start ({error})"
    finally:
        await hypervisor.destroy(identity)
        disk.unlink(missing_ok=True)
        output.unlink(missing_ok=True)
    return "" if heard else "a minimal guest started but did not run to its first word"


async def _hears(hypervisor: Hypervisor, identity: str, output: Path) -> bool:
    """Whether the guest's word comes in time; False at once when KVM has stopped the guest."""
    deadline = time.monotonic() + PROBE_SECONDS
    while time.monotonic() < deadline:
        if await asyncio.to_thread(_said, output):
            return True
        running = await hypervisor.lookup(identity)
        if running is None or running.state != RUNNING:
            return await asyncio.to_thread(_said, output)
        await asyncio.sleep(LOOK_SECONDS)
    return False


def _said(output: Path) -> bool:
    return output.exists() and WORD in output.read_bytes()


def _write(cache: Path, known: VirtType) -> None:
    cache.write_text(json.dumps({"boot_id": boot_id(), **asdict(known)}))


def _xml(virt_type: str, identity: str, disk: Path, output: Path) -> str:
    root = Element("domain", type=virt_type)
    SubElement(root, "name").text = f"ferrite-kvm-probe-{identity}"
    SubElement(root, "uuid").text = identity
    SubElement(root, "memory", unit="MiB").text = "16"
    SubElement(root, "vcpu").text = "1"
    os = SubElement(root, "os")
    SubElement(os, "type", arch="x86_64", machine=MACHINE_TYPE).text = "hvm"
    SubElement(os, "boot", dev="hd")
    SubElement(SubElement(root, "features"), "acpi")
    if virt_type == "kvm":
        SubElement(root, "cpu", mode="host-passthrough")
    devices = SubElement(root, "devices")
    drive = SubElement(devices, "disk", type="file", device="disk")
    SubElement(drive, "driver", name="qemu", type="raw")
    SubElement(drive, "source", file=str(disk))
    SubElement(drive, "target", dev="sda", bus="sata")
    serial = SubElement(devices, "serial", type="file")
    SubElement(serial, "source", path=str(output))
    SubElement(serial, "target", type="isa-serial", port="0")
    SubElement(devices, "memballoon", model="none")
    return xml_text(root)


def _read(cache: Path) -> VirtType | None:
    try:
        kept = json.loads(cache.read_bytes())
        return VirtType(kept["name"], kept["reason"]) if kept["boot_id"] == boot_id() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
