"""OCI manifests and the IronCore image format: which blob is the kernel, which the root disk. Pure."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.libvirt_provider.images.reference import DEFAULT_TAG, DIGEST

INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
TAG_ANNOTATION: Final = "org.opencontainers.image.ref.name"
MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024

ROOTFS: Final = "rootfs"
KERNEL: Final = "kernel"
INITRAMFS: Final = "initramfs"
_PREFIX: Final = "application/vnd.ironcore.image."
# Today's names, and those of the format's first version. Squashfs, UKI and ISO layers are of no use here.
ROLES: Final = {
    f"{_PREFIX}rootfs": ROOTFS,
    f"{_PREFIX}kernel": KERNEL,
    f"{_PREFIX}initramfs": INITRAMFS,
    f"{_PREFIX}rootfs.v1alpha1.rootfs": ROOTFS,
    f"{_PREFIX}vmlinuz.v1alpha1.vmlinuz": KERNEL,
    f"{_PREFIX}initramfs.v1alpha1.initramfs": INITRAMFS,
}
# How OCI spells the architectures that machines have.
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class BadImage(Exception):
    """The image exists, but is not one that a machine can boot from."""


@dataclass(frozen=True)
class Descriptor:
    """Names a blob: what it is, its digest `sha256:<hex>` and its size in bytes."""

    media_type: str
    digest: str
    size: int

    @property
    def hex(self) -> str:
        """The digest's hexadecimal part."""
        return self.digest.removeprefix("sha256:")


@dataclass(frozen=True)
class Manifest:
    """An image: its configuration and its layers by role. It has a root disk, or else a kernel."""

    config: Descriptor
    layers: Mapping[str, Descriptor]


def digest_of(content: bytes) -> str:
    """`sha256:<hex>` of a document."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def is_index(content: bytes) -> bool:
    """Whether a document lists manifests rather than layers."""
    return "manifests" in _document(content)


def parse_manifest(content: bytes) -> Manifest:
    """Reads an image manifest; raises BadImage for a malformed or an incomplete one."""
    document = _document(content)
    layers: dict[str, Descriptor] = {}
    for index, entry in enumerate(_list(document, "layers")):
        layer = _descriptor(f"layers[{index}]", entry)
        if (role := ROLES.get(layer.media_type)) is not None:
            layers[role] = layer
    if ROOTFS not in layers and KERNEL not in layers:
        raise BadImage(f"the image has neither a layer {_PREFIX}rootfs nor a layer {_PREFIX}kernel")
    return Manifest(_descriptor("config", document.get("config")), layers)


def command_line(config: bytes) -> str:
    """The kernel's command line in an image configuration; empty when there is none."""
    value = _document(config).get("commandLine", "")
    if not isinstance(value, str):
        raise BadImage("the image configuration's commandLine is not a string")
    return value


def tagged(index: bytes, tag: str) -> Descriptor:
    """The entry of a layout's index with the tag; without a tag the only entry, or `latest`.

    Raises BadImage when there is none.
    """
    entries = _list(_document(index), "manifests")
    if not tag and len(entries) == 1:
        return _descriptor("manifests[0]", entries[0])
    for number, entry in enumerate(entries):
        if isinstance(entry, dict) and (entry.get("annotations") or {}).get(TAG_ANNOTATION) == (tag or DEFAULT_TAG):
            return _descriptor(f"manifests[{number}]", entry)
    raise BadImage(f"the layout has no image {tag or DEFAULT_TAG!r}")


def for_this_platform(index: bytes, machine: str = "") -> Descriptor:
    """The entry of an image index for Linux on this architecture; BadImage when there is none."""
    architecture = _ARCHITECTURES.get(machine or platform.machine(), machine or platform.machine())
    for number, entry in enumerate(_list(_document(index), "manifests")):
        wanted = entry.get("platform") if isinstance(entry, dict) else None
        if isinstance(wanted, dict) and (wanted.get("os"), wanted.get("architecture")) == ("linux", architecture):
            return _descriptor(f"manifests[{number}]", entry)
    raise BadImage(f"the image index has no entry for linux/{architecture}")


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise BadImage(f"the document is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadImage("the document is not a JSON object")
    return document


def _list(document: dict[str, Any], field: str) -> list[Any]:
    value = document.get(field)
    if not isinstance(value, list):
        raise BadImage(f"{field} is not a list")
    return value


def _descriptor(where: str, entry: Any) -> Descriptor:
    if not isinstance(entry, dict):
        raise BadImage(f"{where} is not a descriptor")
    media_type, digest, size = entry.get("mediaType"), entry.get("digest"), entry.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise BadImage(f"{where} has no mediaType or no digest sha256:<64 hex digits>")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadImage(f"{where}.size is not a size")
    return Descriptor(media_type, digest, size)
