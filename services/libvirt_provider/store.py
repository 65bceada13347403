"""The durable store: one JSON file per machine, mode 0600, since it holds credentials.

A write goes to a temporary file that is synced and renamed, so a file is always whole; what does not parse is put aside
(`.broken`) and reported, and the others go on. `VERSION` is the layout's: a newer one is refused, an older one migrates
in `_decode`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.common.logs import get_logger
from services.common.telemetry_context import traceparent
from services.libvirt_provider.model.machine import Record
from services.libvirt_provider.model.refusals import DiskFull, NotFound

log = get_logger(__name__)

VERSION: Final = 1


class MachineStore:
    """All machines of this host, in memory and on disk. Used from one event loop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._records: dict[str, Record] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._listeners: list[Callable[[str], None]] = []
        # Called after each write, also of what was only observed.
        self.on_write: Callable[[], None] = lambda: None

    def load(self) -> None:
        """Reads all files. Raises OSError for an unusable directory, RuntimeError for a newer layout."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(self._directory.iterdir()):
            if path.name.startswith("."):
                path.unlink()  # a write that was cut off
            elif not path.name.endswith(".broken"):
                self._read(path)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Calls `listener(id)` after each write."""
        self._listeners.append(listener)

    def __iter__(self) -> Iterator[Record]:
        return iter(sorted(self._records.values(), key=lambda record: record.machine.metadata.created_at))

    def get(self, machine_id: str) -> Record | None:
        """The record, not to be altered, or None."""
        return self._records.get(machine_id)

    async def create(self, record: Record) -> None:
        """Stores a new machine; on disk when this returns. Raises DiskFull, OSError: nothing is stored then."""
        # Shielded, here and below: a caller that gives up must not leave disk and memory apart.
        await asyncio.shield(self._create(record))

    async def update(self, machine_id: str, change: Callable[[Record], None]) -> Record:
        """Applies `change` to a copy and stores it, unless nothing changed; on disk when this returns.

        Raises NotFound for an unknown machine, DiskFull or OSError (nothing is changed then), and whatever `change`
        raises.
        """

        def asked(record: Record) -> None:
            before = copy.deepcopy(record)
            change(record)
            if record != before:
                record.trace = traceparent()

        return await asyncio.shield(self._update(machine_id, asked, self._announce))

    async def observe(self, machine_id: str, change: Callable[[Record], None]) -> None:
        """As `update`, for what was observed rather than asked: wakes nobody, and an unknown machine is fine."""
        with contextlib.suppress(NotFound):
            await asyncio.shield(self._update(machine_id, change, lambda machine_id: None))

    async def remove(self, machine_id: str) -> None:
        """Forgets a machine; nothing happens when it is unknown."""
        await asyncio.shield(self._remove(machine_id))

    async def _create(self, record: Record) -> None:
        record.trace = traceparent()
        async with self._lock(record.id):
            await self._write(record)
        self._announce(record.id)

    async def _update(
        self, machine_id: str, change: Callable[[Record], None], announce: Callable[[str], None]
    ) -> Record:
        async with self._lock(machine_id):
            present = self._records.get(machine_id)
            if present is None:
                raise NotFound(f"machine {machine_id!r} not found")
            record = copy.deepcopy(present)
            change(record)
            if record != present:
                record.revision += 1
                await self._write(record)
                announce(machine_id)
            return self._records[machine_id]

    async def _remove(self, machine_id: str) -> None:
        async with self._lock(machine_id):
            if machine_id in self._records:
                await asyncio.to_thread(self._unlink, machine_id)
                del self._records[machine_id]
        self._locks.pop(machine_id, None)
        self.on_write()
        self._announce(machine_id)

    async def _write(self, record: Record) -> None:
        await asyncio.to_thread(self._save, record)
        self._records[record.id] = record
        self.on_write()

    def _announce(self, machine_id: str) -> None:
        for listener in self._listeners:
            listener(machine_id)

    def _lock(self, machine_id: str) -> asyncio.Lock:
        return self._locks.setdefault(machine_id, asyncio.Lock())

    def _read(self, path: Path) -> None:
        try:
            record = _decode(json.loads(path.read_bytes()))
            if record.id != path.name:
                raise ValueError(f"the file holds machine {record.id!r}")
        except (ValueError, KeyError, TypeError, json_format.ParseError) as error:
            log.error("machine file was put aside", path=str(path), error=f"{type(error).__name__}: {error}")
            path.rename(path.with_name(path.name + ".broken"))
            return
        self._records[record.id] = record

    def _save(self, record: Record) -> None:
        temporary = self._directory / f".{record.id}"
        try:
            self._replace(temporary, record)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(f"this host can't store the machine: {error.strerror}") from error
            raise

    def _replace(self, temporary: Path, record: Record) -> None:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(_encode(record), indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._directory / record.id)
        self._sync_directory()

    def _unlink(self, machine_id: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._directory / machine_id).unlink()
        self._sync_directory()

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _encode(record: Record) -> dict[str, Any]:
    return {
        "version": VERSION,
        "revision": record.revision,
        "trace": record.trace,
        "machine": json_format.MessageToDict(record.machine, preserving_proto_field_name=True),
        "cpus": record.cpus,
        "memory": record.memory,
        "power_off_since": record.power_off_since,
        "image_digests": record.image_digests,
        "leaving_volumes": [
            json_format.MessageToDict(v, preserving_proto_field_name=True) for v in record.leaving_volumes
        ],
        "leaving_nics": [json_format.MessageToDict(n, preserving_proto_field_name=True) for n in record.leaving_nics],
    }


def _decode(document: dict[str, Any]) -> Record:
    if document["version"] > VERSION:
        raise RuntimeError(f"the store's layout is version {document['version']}, this program knows up to {VERSION}")
    return Record(
        machine=json_format.ParseDict(document["machine"], pb.Machine()),
        cpus=document["cpus"],
        memory=document["memory"],
        power_off_since=document["power_off_since"],
        image_digests=document["image_digests"],
        leaving_volumes=[json_format.ParseDict(each, pb.Volume()) for each in document["leaving_volumes"]],
        leaving_nics=[json_format.ParseDict(each, pb.NetworkInterface()) for each in document["leaving_nics"]],
        revision=document["revision"],
        trace=document.get("trace", ""),
    )
