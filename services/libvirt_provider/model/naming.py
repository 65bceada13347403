"""Names derived from other names: disk targets, device aliases, serials, deterministic UUIDs, MAC addresses.

They are how a running domain is mapped back to its machine, so none may ever change.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import Final

VOLUME_ALIAS: Final = "ua-volume-"
NIC_ALIAS: Final = "ua-networkinterface-"


def volume_alias(name: str) -> str:
    """Alias of a disk; base64, because libvirt allows few characters."""
    return VOLUME_ALIAS + base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def volume_of_alias(alias: str) -> str | None:
    """The volume behind an alias; None when the device is none of our disks."""
    if not alias.startswith(VOLUME_ALIAS):
        return None
    encoded = alias.removeprefix(VOLUME_ALIAS)
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        return None


def nic_alias(name: str) -> str:
    """Alias of a network interface, whose name is plain letters, digits, `-` and `_`."""
    return NIC_ALIAS + name


def nic_of_alias(alias: str) -> str | None:
    """The network interface behind an alias; None when the device is none of ours."""
    return alias.removeprefix(NIC_ALIAS) if alias.startswith(NIC_ALIAS) else None


def disk_target(device: str) -> str:
    """`oda` of the API is `vda` in the guest."""
    return "v" + device[1:]


def disk_serial(device: str, identity: str) -> str:
    """What the guest reads as the disk's serial; virtio-blk shows 20 bytes of it."""
    return f"{device}-{identity}"


def local_disk_identity(machine_id: str, volume: str) -> str:
    """16 upper-case hex digits: the first 8 bytes of SHA-1 over both names, with the top bit set."""
    digest = bytearray(hashlib.sha1(f"{machine_id}:{volume}".encode(), usedforsecurity=False).digest()[:8])
    digest[0] |= 0x80
    return digest.hex().upper()


def derived_uuid(text: str) -> uuid.UUID:
    """A UUID of version-5 layout over SHA-256 of the nil namespace and `text`."""
    digest = bytearray(hashlib.sha256(bytes(16) + text.encode()).digest()[:16])
    digest[6] = (digest[6] & 0x0F) | 0x50
    digest[8] = (digest[8] & 0x3F) | 0x80
    return uuid.UUID(bytes=bytes(digest))


def mac_address(machine_id: str, nic: str) -> str:
    """The guest's MAC address: the same at every start, unicast and locally administered (0x52), 40 bits of a hash."""
    digest = hashlib.sha256(f"{machine_id}/{nic}".encode()).digest()
    return "52:" + ":".join(f"{byte:02x}" for byte in digest[:5])
