"""Where images come from: what the cache asks of a layout directory or a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from services.libvirt_provider.images.manifest import Descriptor


class ImageUnavailable(Exception):
    """The image, or part of it, can't be had now; the text says from where and why."""


class ImageSource(Protocol):
    """One image. The cache checks every digest itself."""

    async def document(self, digest: str) -> bytes:
        """A manifest or index; with an empty digest the one that the reference's tag points at.

        Raises ImageUnavailable.
        """
        ...

    def blob(self, descriptor: Descriptor, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a blob from `offset` on; raises ImageUnavailable."""
        ...
