"""What a machine may ask for. Raises `Invalid` with the field's path."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.images.reference import parse_reference
from services.libvirt_provider.model.refusals import Invalid

# Device names as the machine API gives them: oda, odb, ... sda, vdaa.
DEVICE: Final = re.compile(r"[a-z]d[a-z]{1,2}")
# The name becomes a folder and, encoded, a device alias.
VOLUME_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
# Becomes part of a device alias, in which libvirt takes nothing else.
NIC_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
CEPH: Final = "ceph"
HOST_PORT: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:,\s]+):(?P<port>[0-9]{1,5})")


def check_volumes_and_nics(spec: pb.MachineSpec) -> None:
    """All volumes and network interfaces of a new machine."""
    for index, volume in enumerate(spec.volumes):
        check_volume(f"machine.spec.volumes[{index}]", volume)
    for index, nic in enumerate(spec.network_interfaces):
        check_nic(f"machine.spec.network_interfaces[{index}]", nic)
    _unique("machine.spec.volumes", "name", (volume.name for volume in spec.volumes))
    _unique("machine.spec.volumes", "device", (volume.device for volume in spec.volumes))
    _unique("machine.spec.network_interfaces", "name", (nic.name for nic in spec.network_interfaces))


def check_volume(path: str, volume: pb.Volume) -> None:
    """Name, device, and exactly one of local disk and connection."""
    if not VOLUME_NAME.fullmatch(volume.name):
        raise Invalid(f"{path}.name", f"{volume.name!r} is not 1 to 63 letters, digits, '.', '_', '-'")
    if not DEVICE.fullmatch(volume.device):
        raise Invalid(f"{path}.device", f"{volume.device!r} is not a device name such as oda")
    if volume.HasField("local_disk") == volume.HasField("connection"):
        raise Invalid(path, "must have either local_disk or connection")
    if volume.HasField("local_disk"):
        if volume.local_disk.size_bytes < 0:
            raise Invalid(f"{path}.local_disk.size_bytes", "must not be negative")
        if volume.local_disk.HasField("image"):
            _check_image(f"{path}.local_disk.image.image", volume.local_disk.image.image)
    else:
        _check_ceph(f"{path}.connection", volume.connection)


def check_nic(path: str, nic: pb.NetworkInterface) -> None:
    """Name and addresses."""
    if not NIC_NAME.fullmatch(nic.name):
        raise Invalid(f"{path}.name", f"{nic.name!r} is not 1 to 63 letters, digits, '_', '-'")
    for index, address in enumerate(nic.ips):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise Invalid(f"{path}.ips[{index}]", f"{address!r} is not an IP address") from None


def monitors_of(connection: pb.VolumeConnection) -> list[tuple[str, int]]:
    """The Ceph monitors of a checked connection: host (no brackets) and port."""
    found = [HOST_PORT.fullmatch(part.strip()) for part in connection.attributes["monitors"].split(",")]
    return [(match["host"].strip("[]"), int(match["port"])) for match in found if match]


def _check_image(path: str, reference: str) -> None:
    try:
        parse_reference(reference)
    except ValueError as error:
        raise Invalid(path, str(error)) from None


def _check_ceph(path: str, connection: pb.VolumeConnection) -> None:
    if connection.driver != CEPH:
        raise Invalid(f"{path}.driver", f"{connection.driver!r} is not supported, only {CEPH!r}")
    if not connection.handle:
        raise Invalid(f"{path}.handle", "must not be empty")
    for index, monitor in enumerate(connection.attributes.get("monitors", "").split(",")):
        match = HOST_PORT.fullmatch(monitor.strip())
        if match is None or not 0 < int(match["port"]) < 65536:
            raise Invalid(f"{path}.attributes[monitors]", f"entry {index}, {monitor!r}, is not host:port or [v6]:port")
    pool, _, name = connection.attributes.get("image", "").partition("/")
    if not pool or not name:
        raise Invalid(f"{path}.attributes[image]", "must be pool/name")
    for key in ("userID", "userKey"):
        if not connection.secret_data.get(key):
            raise Invalid(f"{path}.secret_data[{key}]", "must be given")
    try:
        base64.b64decode(connection.secret_data["userKey"], validate=True)
    except binascii.Error:
        raise Invalid(f"{path}.secret_data[userKey]", "is not base64, as a cephx key is written") from None
    if connection.encryption_data and not connection.encryption_data.get("encryptionKey"):
        raise Invalid(f"{path}.encryption_data[encryptionKey]", "must be given when there are encryption data")
    if connection.effective_storage_bytes <= 0:
        raise Invalid(f"{path}.effective_storage_bytes", "must be greater than zero")


def _unique(path: str, field: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise Invalid(f"{path}[{index}].{field}", f"{value!r} stands twice")
        seen.add(value)
