"""Disks in Ceph, opened by QEMU through librbd; its credentials are libvirt secrets, one pair per disk."""

from __future__ import annotations

import base64
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.hypervisor import Hypervisor
from services.libvirt_provider.images.cache import Image
from services.libvirt_provider.model import naming
from services.libvirt_provider.model.devices import Disk, RbdSource
from services.libvirt_provider.model.domain import xml_text
from services.libvirt_provider.model.validation import monitors_of

PLUGIN: Final = "libvirt-provider.ironcore.dev/ceph"
# An encrypted image begins with a LUKS2 header, which the guest does not see (librbd of Ceph 16.2).
LUKS_HEADER_BYTES: Final = 16 * 1024 * 1024


class CephDisks:
    """RBD images. `cache` is QEMU's cache mode for them."""

    def __init__(self, hypervisor: Hypervisor, cache: str = "none") -> None:
        self._hypervisor = hypervisor
        self._cache = cache

    def handles(self, volume: pb.Volume) -> bool:
        return volume.HasField("connection")

    async def ensure(self, machine_id: str, volume: pb.Volume, image: Image | None) -> Disk:
        connection = volume.connection
        user = connection.secret_data["userID"].decode()
        key_secret = naming.derived_uuid(f"{machine_id}/{volume.name}")
        passphrase_secret = naming.derived_uuid(f"enc/{machine_id}/{volume.name}")
        usage = f"domain.{machine_id}.volume.{volume.name}"
        await self._hypervisor.set_secret(
            _secret_xml(str(key_secret), "ceph", "name", f"{usage}.client.{user} secret"),
            str(key_secret),
            base64.b64decode(connection.secret_data["userKey"]),
        )
        encrypted = bool(connection.encryption_data)
        if encrypted:
            await self._hypervisor.set_secret(
                _secret_xml(str(passphrase_secret), "volume", "volume", usage),
                str(passphrase_secret),
                connection.encryption_data["encryptionKey"],
            )
        return Disk(
            volume=volume.name,
            device=volume.device,
            identity=connection.handle,
            source=RbdSource(
                image=connection.attributes["image"],
                monitors=tuple(monitors_of(connection)),
                user=user,
                key_secret=key_secret,
                passphrase_secret=passphrase_secret if encrypted else None,
                cache=self._cache,
            ),
            handle=f"{PLUGIN}/{PLUGIN}^{connection.handle}",
        )

    async def release(self, machine_id: str, volume: pb.Volume) -> None:
        for text in (f"{machine_id}/{volume.name}", f"enc/{machine_id}/{volume.name}"):
            await self._hypervisor.drop_secret(str(naming.derived_uuid(text)))


def guest_bytes(connection: pb.VolumeConnection) -> int:
    """The size that the guest shall see."""
    header = LUKS_HEADER_BYTES if connection.encryption_data else 0
    return connection.effective_storage_bytes - header


def _secret_xml(uuid: str, usage: str, element: str, name: str) -> str:
    # Ephemeral: libvirt keeps it in memory only. Private: no client may read it back.
    root = Element("secret", ephemeral="yes", private="yes")
    SubElement(root, "uuid").text = uuid
    SubElement(SubElement(root, "usage", type=usage), element).text = name
    return xml_text(root)
