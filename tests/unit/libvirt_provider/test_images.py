"""Names of images and the documents of the OCI image format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.libvirt_provider.images.manifest import (
    BadImage,
    Descriptor,
    command_line,
    for_this_platform,
    is_index,
    parse_manifest,
    tagged,
)
from services.libvirt_provider.images.reference import (
    LayoutReference,
    Reference,
    RegistryReference,
    parse_reference,
)

HEX = "0123456789abcdef" * 4
PREFIX = "application/vnd.ironcore.image."


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        pytest.param("oci-layout:/images/a", LayoutReference(Path("/images/a"), ""), id="layout"),
        pytest.param("oci-layout:/images/a:v1", LayoutReference(Path("/images/a"), "v1"), id="layout with tag"),
        pytest.param("/images/a:v1", LayoutReference(Path("/images/a"), "v1"), id="bare path"),
        pytest.param("host.example/a/b", RegistryReference("host.example", "a/b", "latest", ""), id="registry"),
        pytest.param("localhost:5000/a:v1", RegistryReference("localhost:5000", "a", "v1", ""), id="port and tag"),
        pytest.param("[fd00::1]:5000/a", RegistryReference("[fd00::1]:5000", "a", "latest", ""), id="IPv6"),
        pytest.param(f"h.example/a:v1@sha256:{HEX}", RegistryReference("h.example", "a", "v1", f"sha256:{HEX}"),
                     id="digest"),
    ],
)  # fmt: skip
def test_references(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "registry host", id="empty"),
        pytest.param("ubuntu", "registry host", id="short name"),
        pytest.param("library/ubuntu", "registry host", id="short name with folder"),
        pytest.param("h.example/A", "repository name", id="upper case"),
        pytest.param("h.example/a:", "not a tag", id="empty tag"),
        pytest.param("h.example/a@sha256:12", "not a digest", id="short digest"),
        pytest.param("oci-layout:a/b", "absolute", id="relative layout"),
        pytest.param("oci-layout:/a:b c", "not a tag", id="tag with space"),
    ],
)
def test_wrong_references(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_reference(text)


def descriptor(media_type: str, digit: str = "a", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": "sha256:" + digit * 64, "size": 7, **more}


def manifest(*layers: dict[str, Any]) -> bytes:
    return json.dumps({"config": descriptor("c", "c"), "layers": layers}).encode()


@pytest.mark.parametrize(
    ("layers", "roles"),
    [
        pytest.param([descriptor(f"{PREFIX}rootfs")], {"rootfs"}, id="a disk"),
        pytest.param([descriptor(f"{PREFIX}kernel"), descriptor(f"{PREFIX}initramfs")], {"kernel", "initramfs"},
                     id="a kernel"),
        pytest.param([descriptor(f"{PREFIX}rootfs.v1alpha1.rootfs"), descriptor(f"{PREFIX}vmlinuz.v1alpha1.vmlinuz")],
                     {"rootfs", "kernel"}, id="the format's first names"),
        pytest.param([descriptor(f"{PREFIX}rootfs"), descriptor(f"{PREFIX}squashfs", "b")], {"rootfs"},
                     id="squashfs never takes the disk's place"),
    ],
)  # fmt: skip
def test_layers_by_role(layers: list[dict[str, Any]], roles: set[str]) -> None:
    parsed = parse_manifest(manifest(*layers))
    assert set(parsed.layers) == roles
    assert parsed.config == Descriptor("c", "sha256:" + "c" * 64, 7)
    assert all(layer.hex == "a" * 64 for layer in parsed.layers.values())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"{", "not JSON", id="torn"),
        pytest.param(b"[]", "not a JSON object", id="a list"),
        pytest.param(b"{}", "layers is not a list", id="empty"),
        pytest.param(manifest(descriptor(f"{PREFIX}iso")), "neither a layer", id="an ISO only"),
        pytest.param(manifest({"mediaType": f"{PREFIX}rootfs", "digest": "md5:1", "size": 1}), "no digest", id="md5"),
        pytest.param(manifest(descriptor(f"{PREFIX}rootfs", size=-1)), "size", id="negative size"),
        pytest.param(manifest("x"), "not a descriptor", id="a string as layer"),  # type: ignore[arg-type]
    ],
)
def test_wrong_manifests(content: bytes, says: str) -> None:
    with pytest.raises(BadImage, match=says):
        parse_manifest(content)


def index(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"manifests": entries}).encode()


def name(tag: str) -> dict[str, Any]:
    return {"annotations": {"org.opencontainers.image.ref.name": tag}}


def test_tags_of_a_layout() -> None:
    two = index(descriptor("m", "1", **name("v1")), descriptor("m", "2", **name("latest")))
    assert tagged(two, "v1").hex == "1" * 64
    assert tagged(two, "").hex == "2" * 64
    assert tagged(index(descriptor("m", "3")), "").hex == "3" * 64
    with pytest.raises(BadImage, match="v2"):
        tagged(two, "v2")


def test_platforms_of_an_index() -> None:
    content = index(
        descriptor("m", "1", platform={"os": "linux", "architecture": "arm64"}),
        descriptor("m", "2", platform={"os": "linux", "architecture": "amd64"}),
    )
    assert is_index(content)
    assert for_this_platform(content, "x86_64").hex == "2" * 64
    assert for_this_platform(content, "aarch64").hex == "1" * 64
    with pytest.raises(BadImage, match="linux/riscv64"):
        for_this_platform(content, "riscv64")


def test_command_lines() -> None:
    assert command_line(b'{"commandLine": "console=ttyS0"}') == "console=ttyS0"
    assert command_line(b"{}") == ""
    with pytest.raises(BadImage):
        command_line(b'{"commandLine": 1}')
