"""Images in an OCI image layout directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from services.libvirt_provider.images.manifest import MAX_DOCUMENT_BYTES, BadImage, Descriptor, digest_of, tagged
from services.libvirt_provider.images.reference import LayoutReference
from services.libvirt_provider.images.source import ImageUnavailable

CHUNK_BYTES: Final = 1024 * 1024


class LayoutSource:
    """One tag of a layout."""

    def __init__(self, reference: LayoutReference) -> None:
        self._path = reference.path
        self._tag = reference.tag

    async def document(self, digest: str) -> bytes:
        if not digest:
            digest = tagged(await self._read(self._path / "index.json"), self._tag).digest
        content = await self._read(self._blob(digest))
        if digest_of(content) != digest:
            raise BadImage(f"{self._blob(digest)} has digest {digest_of(content)}")
        return content

    async def blob(self, descriptor: Descriptor, offset: int) -> AsyncIterator[bytes]:
        try:
            with await asyncio.to_thread(self._blob(descriptor.digest).open, "rb") as file:
                file.seek(offset)
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise ImageUnavailable(str(error)) from error

    def _blob(self, digest: str) -> Path:
        return self._path / "blobs" / Path(*digest.split(":"))

    async def _read(self, path: Path) -> bytes:
        try:
            with await asyncio.to_thread(path.open, "rb") as file:
                return await asyncio.to_thread(file.read, MAX_DOCUMENT_BYTES)
        except OSError as error:
            raise ImageUnavailable(str(error)) from error
