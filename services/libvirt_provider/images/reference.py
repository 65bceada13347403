"""Image references: an OCI layout on this host, or a repository of a registry. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LAYOUT: Final = "oci-layout:"
DEFAULT_TAG: Final = "latest"
# Grammar of the OCI distribution specification.
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class LayoutReference:
    """A tag in an OCI image layout directory; an empty tag means the only image, or `latest`."""

    path: Path
    tag: str


@dataclass(frozen=True)
class RegistryReference:
    """An image in a registry; a digest wins over the tag."""

    host: str
    repository: str
    tag: str
    digest: str


Reference = LayoutReference | RegistryReference


def parse_reference(text: str) -> Reference:
    """Reads `oci-layout:/path[:tag]`, `/path[:tag]` or `host[:port]/repository[:tag][@digest]`.

    Raises ValueError that says which part is wrong.
    """
    if text.startswith((LAYOUT, "/")):
        return _layout(text.removeprefix(LAYOUT))
    rest, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise ValueError(f"image {text!r}: {digest!r} is not a digest sha256:<64 hex digits>")
    host, slash, path = rest.partition("/")
    if not slash or not _HOST.fullmatch(host) or not ("." in host or ":" in host or host == "localhost"):
        raise ValueError(f"image {text!r}: must begin with a registry host, or be oci-layout:/path[:tag]")
    repository, colon, tag = path.partition(":")
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError(f"image {text!r}: {repository!r} is not a repository name")
    if colon and not _TAG.fullmatch(tag):
        raise ValueError(f"image {text!r}: {tag!r} is not a tag")
    return RegistryReference(host, repository, tag or DEFAULT_TAG, digest)


def _layout(text: str) -> LayoutReference:
    path, colon, tag = text.rpartition(":")
    if not colon:
        path, tag = text, ""
    if not path.startswith("/"):
        raise ValueError(f"image {LAYOUT}{text}: the path must be absolute")
    if colon and not _TAG.fullmatch(tag):
        raise ValueError(f"image {LAYOUT}{text}: {tag!r} is not a tag")
    return LayoutReference(Path(path), tag)
