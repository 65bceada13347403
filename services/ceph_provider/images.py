"""RBD images: make, limit, grow, remove. Each step may be repeated."""

from __future__ import annotations

import errno
import secrets
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import rados
import rbd

from services.ceph_provider.cluster import Cluster, Pulse

WWN_KEY: Final = "wwn"
HALF_MADE_SECONDS: Final = 5.0
"""How long a name may have no image behind it while somebody makes it; that takes milliseconds."""

OPTION_PREFIX: Final = "conf_"
"""Image metadata that begin like this override librbd's options for the image."""

DIRECTORY, NAME_PREFIX = "rbd_directory", "name_"
"""The object that lists a pool's images, and what its keys begin with; the name follows."""

GUARD_PREFIX, GUARD_SECONDS = "removing.", 5
"""Begins the name of the object that is locked by who removes an image, and for how many seconds: until the image is
open, which others see."""

HEADER_PREFIX: Final = "rbd_header."
"""Begins the name of the object that holds an image's properties; its id follows."""


class ImageBusy(Exception):
    """Somebody has the image open."""


@dataclass(frozen=True)
class Image:
    """An image that exists: RBD's internal id and its size in bytes."""

    rbd_id: str
    size: int


class Images:
    """The images of the pool, by name."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def look(self, name: str) -> Image | None:
        """The image, or None when there is none (or one that was never completed)."""
        return await self._cluster.in_pool("open the image", lambda pool: _look(pool, name))

    async def create(self, name: str, size: int) -> bool:
        """Makes an empty image with the cluster's default features; False when a whole one is there already."""

        def create(pool: Any) -> bool:
            try:
                rbd.RBD().create(pool, name, size)
                return True
            except rbd.ImageExists:
                pass
            # Another provider may be making it just now.
            deadline = time.monotonic() + HALF_MADE_SECONDS
            while time.monotonic() < deadline:
                if _look(pool, name) is not None:
                    return False
                time.sleep(0.1)
            # Its maker was killed half-way: the name is taken, but there is no image behind it.
            rbd.RBD().remove(pool, name)
            rbd.RBD().create(pool, name, size)
            return True

        return await self._cluster.in_pool("create the image", create)

    async def set_metadata(self, image: Image, wwn: str, limits: Mapping[str, int]) -> None:
        """Names the image and limits its use, before anybody opens it. librbd honours the limits whoever does.

        All in one operation: librbd's own call writes one pair and tells all who have the image open, which took a
        quarter of a second for these.
        """
        wanted = {WWN_KEY: wwn, **{OPTION_PREFIX + option: str(value) for option, value in limits.items()}}

        def write(pool: Any) -> None:
            pool.execute(f"{HEADER_PREFIX}{image.rbd_id}", "rbd", "metadata_set", _encoded(wanted))

        await self._cluster.in_pool("set the image's limits", write)

    async def grow(self, name: str, size: int) -> None:
        """Makes the image larger; whoever has it open sees the new size."""

        def resize(pool: Any) -> None:
            with rbd.Image(pool, name) as image:
                if image.size() < size:
                    image.resize(size, False)

        await self._cluster.in_pool("resize the image", resize)

    async def users(self, name: str) -> list[str]:
        """Addresses of those who have the image open."""

        def look(pool: Any) -> list[str]:
            try:
                # Read-only, since opening it for writing would list us, too.
                with rbd.Image(pool, name, read_only=True) as image:
                    return sorted(str(watcher["addr"]) for watcher in image.watchers_list())
            except rbd.ImageNotFound:
                return []

        return await self._cluster.in_pool("look for users of the image", look)

    async def remove(self, name: str) -> None:
        """Removes the image and what is left of a half-made or half-removed one.

        Raises ImageBusy, also while somebody else is removing it: librbd first moves an image to the trash, and back
        under its name when it can't be removed, so two at once may both believe that it is gone.
        """
        pulse = Pulse()

        def note_progress(done: int, total: int) -> int:
            pulse.beat()
            return 0

        def remove(pool: Any) -> bool:
            with _alone(pool, name) as alone:
                # A large image takes its time: as long as there is progress, it is not cut off.
                return alone and _remove(pool, name, note_progress) and not _is_listed(pool, name)

        if not await self._cluster.in_pool("remove the image", remove, pulse=pulse):
            raise ImageBusy(name)


@contextmanager
def _alone(pool: Any, name: str) -> Iterator[bool]:
    """Keeps other removals of an image away while this one begins; False if there is one already.

    What the process leaves that is killed meanwhile is in nobody's way for long.
    """
    guard = GUARD_PREFIX + name
    try:
        pool.lock_exclusive(guard, "removal", secrets.token_hex(8), duration=GUARD_SECONDS)
    except (rados.ObjectBusy, rados.ObjectExists):
        yield False
        return
    try:
        yield True
    finally:
        with suppress(rados.ObjectNotFound):
            pool.remove_object(guard)


def _remove(pool: Any, name: str, note_progress: Callable[[int, int], int]) -> bool:
    """False: somebody has it open, or is removing it."""
    try:
        try:
            rbd.RBD().remove(pool, name, on_progress=note_progress)
        except rbd.ImageNotFound:
            for thrown in rbd.RBD().trash_list(pool):
                if thrown["name"] == name:
                    rbd.RBD().trash_remove(pool, thrown["id"], force=True)
    except (rbd.ImageBusy, rbd.ImageNotFound):
        return False
    except rbd.OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return False
    return True


def _is_listed(pool: Any, name: str) -> bool:
    key = NAME_PREFIX + name
    with rados.ReadOpCtx() as read:
        found, _ = pool.get_omap_vals_by_keys(read, (key,))
        try:
            pool.operate_read_op(read, DIRECTORY)
        except rados.ObjectNotFound:  # nor is any other image
            return False
        return any(listed == key for listed, _ in found)


def _encoded(pairs: Mapping[str, str]) -> bytes:
    """A map as Ceph encodes it: the number of pairs, then each key and value with its length; 32 bit, little-endian."""
    texts = [text.encode() for pair in pairs.items() for text in pair]
    return struct.pack("<I", len(pairs)) + b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _look(pool: Any, name: str) -> Image | None:
    try:
        with rbd.Image(pool, name, read_only=True) as image:
            return Image(image.id(), image.size())
    except rbd.ImageNotFound:
        return None
