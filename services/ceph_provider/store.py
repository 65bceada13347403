"""The durable store: one omap entry per volume. Every write is a compare-and-swap, so several providers may share it.

There is no copy in memory: what another provider writes is seen at the next look.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from typing import Any, Final

import rados

from services.ceph_provider.cluster import CephError, Cluster
from services.ceph_provider.model.names import VOLUMES_OBJECT, is_id
from services.ceph_provider.model.record import Record, decode, encode
from services.ceph_provider.model.refusals import NotFound
from services.common.logs import get_logger

log = get_logger(__name__)

PAGE: Final = 1000
"""Entries per read; OSDs give 1024 at most (osd_max_omap_entries_per_request)."""

MOST_TRIES: Final = 20
ABSENT: Final = ""
"""What a missing omap entry compares equal to."""


class VolumeStore:
    """The records of all volumes of a pool. `on_change(record)` is called after each write of this process."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._broken: set[str] = set()
        self.on_change: Callable[[Record], None] = lambda record: None
        # Called after each write of this process, and each removal.
        self.on_write: Callable[[], None] = lambda: None

    async def list(self) -> list[Record]:
        """All records, oldest first. An entry that can't be read is logged and left out."""
        entries = await self._cluster.in_pool("list volumes", _read_all)
        records = [record for key, value in entries if (record := self._decode(key, value)) is not None]
        return sorted(records, key=lambda record: record.metadata.created_at)

    async def get(self, volume_id: str) -> Record | None:
        """The record, or None when there is none that can be read."""
        value = await self._read(volume_id)
        return None if value is None else self._decode(volume_id, value)

    async def create(self, record: Record) -> Record | None:
        """Stores a new volume, durably when this returns; returns the present record of that id, if there is one."""
        # Shielded, here and below: what was written must be announced, even if the caller has given up.
        return await asyncio.shield(self._create(record))

    async def update(self, volume_id: str, change: Callable[[Record], None]) -> Record:
        """Applies `change` and stores the outcome, unless nothing changed; durable when this returns.

        `change` is called again when somebody else wrote meanwhile. Raises NotFound, and whatever `change` raises.
        """
        return await asyncio.shield(self._update(volume_id, change))

    async def remove(self, record: Record) -> bool:
        """Forgets a volume; False when it has changed since it was read."""
        value = await self._read(record.id)
        if value is None:
            return True
        if self._decode(record.id, value) != record:
            return False
        return await self._swap(record.id, value.decode(), None)

    async def _create(self, record: Record) -> Record | None:
        record.metadata.resource_version = 1
        if await self._swap(record.id, ABSENT, encode(record)):
            self.on_change(record)
            return None
        present = await self.get(record.id)
        if present is None:
            raise RuntimeError(f"volume {record.id} exists, but its record can't be read")
        return present

    async def _update(self, volume_id: str, change: Callable[[Record], None]) -> Record:
        for _ in range(MOST_TRIES):
            value = await self._read(volume_id)
            record = None if value is None else self._decode(volume_id, value)
            if value is None or record is None:
                raise NotFound(f"volume {volume_id!r} not found")
            before = record.model_copy(deep=True)
            change(record)
            if record == before:
                return record
            record.metadata.resource_version += 1
            if await self._swap(volume_id, value.decode(), encode(record)):
                self.on_change(record)
                return record
            await asyncio.sleep(random.uniform(0, 0.05))
        raise RuntimeError(f"volume {volume_id} is being written by others all the time")

    def _decode(self, key: str, value: bytes) -> Record | None:
        try:
            record = decode(value)
            if record.id != key:
                raise ValueError(f"metadata.id: is {record.id!r}")
        except ValueError as error:
            if key not in self._broken:
                log.error("volume record can't be read", volume=key, error=str(error))
            self._broken.add(key)
            return None
        self._broken.discard(key)
        return record

    async def _read(self, volume_id: str) -> bytes | None:
        # An omap key with a NUL in it would be cut off there, and another volume found.
        if not is_id(volume_id):
            return None
        return await self._cluster.in_pool("read a volume", lambda pool: _read_one(pool, volume_id))

    async def _swap(self, volume_id: str, expected: str, value: str | None) -> bool:
        """Writes (None: removes) the entry if it is as expected; False if it is not."""

        def swap(pool: Any) -> None:
            with rados.WriteOpCtx() as write:
                write.new(rados.LIBRADOS_CREATE_IDEMPOTENT)
                write.omap_cmp(volume_id, _comparand(expected))
                if value is None:
                    pool.remove_omap_keys(write, (volume_id,))
                else:
                    pool.set_omap(write, (volume_id,), (value,))
                pool.operate_write_op(write, VOLUMES_OBJECT)

        try:
            await self._cluster.in_pool("write a volume", swap)
        except CephError as error:
            if error.code == errno.ECANCELED:
                return False
            raise
        self.on_write()
        return True


def _comparand(text: str) -> str:
    """`omap_cmp` of librados' Python binding (16.2) compares as many bytes as the text has characters."""
    return text + "\0" * (len(text.encode()) - len(text))


def _read_all(pool: Any) -> list[tuple[str, bytes]]:
    entries: list[tuple[str, bytes]] = []
    after = ""
    while True:
        with rados.ReadOpCtx() as read:
            found, _ = pool.get_omap_vals(read, after, "", PAGE)
            try:
                pool.operate_read_op(read, VOLUMES_OBJECT)
            except rados.ObjectNotFound:
                return entries
            page = list(found)
        if not page:
            return entries
        entries += page
        after = page[-1][0]


def _read_one(pool: Any, key: str) -> bytes | None:
    with rados.ReadOpCtx() as read:
        found, _ = pool.get_omap_vals_by_keys(read, (key,))
        try:
            pool.operate_read_op(read, VOLUMES_OBJECT)
        except rados.ObjectNotFound:
            return None
        return next((bytes(value) for _, value in found), None)
