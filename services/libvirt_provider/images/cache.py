"""Images on this host: blobs by digest, pulled once, whole or not at all.

DIRECTORY/blobs/sha256/<hex>      verified blobs
DIRECTORY/ingest/<hex>            what has arrived of a blob; a later pull goes on from there
DIRECTORY/refs/<hash>.json        the manifest that a reference meant when it was last resolved
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.logs import get_logger
from services.libvirt_provider.images import manifest as oci
from services.libvirt_provider.images.layout import LayoutSource
from services.libvirt_provider.images.manifest import BadImage, Descriptor
from services.libvirt_provider.images.reference import LayoutReference, parse_reference
from services.libvirt_provider.images.registry import RegistrySource
from services.libvirt_provider.images.source import ImageSource, ImageUnavailable

log = get_logger(__name__)

PULLS_AT_ONCE: Final = 3
FRESH_SECONDS: Final = 5.0
COPY_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class Image:
    """An image whose blobs are all here. `digest` is its manifest's."""

    digest: str
    rootfs: Path | None
    kernel: Path | None
    initramfs: Path | None
    command_line: str


@dataclass(frozen=True)
class PullFailed:
    """Why the last pull of a reference failed."""

    message: str


class ImageCache:
    """Answers at once with what is here and pulls the rest in the background.

    `on_pulled(reference)` is called when a pull has ended, well or not. `plain_http` are registry hosts without TLS.
    """

    def __init__(self, directory: Path, plain_http: frozenset[str] = frozenset()) -> None:
        self._directory = directory
        self._plain_http = plain_http
        self._pulls: dict[str, asyncio.Task[Image | PullFailed]] = {}
        self._ended: dict[str, float] = {}
        self._blobs: dict[str, asyncio.Lock] = {}
        self._slots = asyncio.Semaphore(PULLS_AT_ONCE)
        self.on_pulled: Callable[[str], None] = lambda reference: None

    def prepare(self) -> None:
        """Makes the folders; OSError when they can't be made."""
        for folder in ("blobs/sha256", "ingest", "refs"):
            (self._directory / folder).mkdir(parents=True, exist_ok=True)

    async def known(self, digest: str) -> Image | None:
        """The image of a manifest digest, when all of it is here."""
        return await asyncio.to_thread(self._assemble, digest)

    def pull(self, reference: str) -> Image | PullFailed | None:
        """The outcome of a pull that ended within FRESH_SECONDS, or None while one is under way.

        Later askers start a new one: a tag may have moved, a registry may be back. Concurrent askers share one pull.
        """
        now = asyncio.get_running_loop().time()
        task = self._pulls.get(reference)
        if task is None or (task.done() and now > self._ended[reference] + FRESH_SECONDS):
            task = asyncio.create_task(self._pull(reference), name=f"pull {reference}")
            self._pulls[reference] = task
            task.add_done_callback(lambda ended: self._end(reference))
        return task.result() if task.done() else None

    def _end(self, reference: str) -> None:
        self._ended[reference] = asyncio.get_running_loop().time()
        self.on_pulled(reference)

    async def _pull(self, reference: str) -> Image | PullFailed:
        try:
            async with self._slots:
                digest = await self._resolve(reference)
                image = await self.known(digest)
            if image is None:
                raise BadImage("a blob vanished right after it was stored")
        except (ImageUnavailable, BadImage, OSError, ValueError) as error:
            log.warning("image pull failed", image=reference, error=str(error))
            return PullFailed(str(error))
        log.info("image is present", image=reference, digest=digest)
        return image

    async def _resolve(self, reference: str) -> str:
        """Fetches all blobs; returns the manifest's digest. The last known one serves while the source is away."""
        source = self._source(reference)
        pin = self._directory / "refs" / f"{hashlib.sha256(reference.encode()).hexdigest()}.json"
        try:
            content = await source.document("")
            _verify(getattr(parse_reference(reference), "digest", ""), content)
            if oci.is_index(content):
                entry = oci.for_this_platform(content)
                content = await source.document(entry.digest)
                _verify(entry.digest, content)
        except ImageUnavailable:
            if pin.exists():
                return str(json.loads(pin.read_bytes())["digest"])
            raise
        digest = oci.digest_of(content)
        manifest = oci.parse_manifest(content)
        for blob in (manifest.config, *manifest.layers.values()):
            await self._fetch(source, blob)
        # The manifest last: whoever sees it may rely on its blobs.
        await asyncio.to_thread(self._store, self._blob(digest), content)
        await asyncio.to_thread(self._store, pin, json.dumps({"reference": reference, "digest": digest}).encode())
        return digest

    def _source(self, text: str) -> ImageSource:
        reference = parse_reference(text)
        if isinstance(reference, LayoutReference):
            return LayoutSource(reference)
        return RegistrySource(reference, plain_http=reference.host in self._plain_http)

    async def _fetch(self, source: ImageSource, blob: Descriptor) -> None:
        target = self._blob(blob.digest)
        async with self._blobs.setdefault(blob.digest, asyncio.Lock()):
            if target.exists():
                return
            partial = self._directory / "ingest" / blob.hex
            hasher = await asyncio.to_thread(_hash_of, partial)
            size = partial.stat().st_size if partial.exists() else 0
            with await asyncio.to_thread(partial.open, "ab") as file:
                if size < blob.size:
                    async for chunk in source.blob(blob, size):
                        size += len(chunk)
                        if size > blob.size:
                            break
                        hasher.update(chunk)
                        await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(_flush, file.fileno(), file.flush)
            if size < blob.size:
                raise ImageUnavailable(f"blob {blob.digest}: only {size} of {blob.size} bytes came")
            if size > blob.size or hasher.hexdigest() != blob.hex:
                partial.unlink()
                raise BadImage(f"blob {blob.digest}: its content has another digest or size")
            partial.chmod(0o644)
            partial.rename(target)

    def _assemble(self, digest: str) -> Image | None:
        try:
            manifest = oci.parse_manifest(self._blob(digest).read_bytes())
            paths = {role: self._blob(layer.digest) for role, layer in manifest.layers.items()}
            config = self._blob(manifest.config.digest).read_bytes()
        except FileNotFoundError:
            return None
        if not all(path.exists() for path in paths.values()):
            return None
        return Image(
            digest=digest,
            rootfs=paths.get(oci.ROOTFS),
            kernel=paths.get(oci.KERNEL),
            initramfs=paths.get(oci.INITRAMFS),
            command_line=oci.command_line(config),
        )

    def _blob(self, digest: str) -> Path:
        return self._directory / "blobs" / Path(*digest.split(":"))

    def _store(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}")
        with temporary.open("wb") as file:
            file.write(content)
            _flush(file.fileno(), file.flush)
        temporary.rename(path)


def _verify(digest: str, content: bytes) -> None:
    if digest and oci.digest_of(content) != digest:
        raise BadImage(f"the document {digest} has digest {oci.digest_of(content)}")


def _hash_of(path: Path) -> hashlib._Hash:
    hasher = hashlib.sha256()
    if path.exists():
        with path.open("rb") as file:
            while chunk := file.read(COPY_BYTES):
                hasher.update(chunk)
    return hasher


def _flush(descriptor: int, flush: Callable[[], None]) -> None:
    flush()
    os.fsync(descriptor)
