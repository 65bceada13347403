"""The journal: what a restarted process has to know that packets don't (ids, host names), one JSON object a line.

The first line is the head (version, uuid), each later one a step: its changes, the address counter, and whether
Initialize was called. A step is written before packets follow it. There is no fsync: a machine that loses its page
cache loses its BPF maps too, and then both start afresh under a new uuid, whatever is left of this file. A torn last
line was never answered.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.dpservice.journal_codec import decoded, encoded
from services.dpservice.model.changes import AnyChange, RouteChanges

VERSION: Final = 2
COMPACT_AFTER_ROWS: Final = 10_000  # and when half of the rows are history


class JournalError(Exception):
    """The journal's version is unknown or its content makes no sense; the text says what to do."""


class Step(NamedTuple):
    """What one call did."""

    changes: Sequence[AnyChange]
    counter: int
    initialized: bool


class Journal:
    """The file below the state directory. Not safe for two threads: the caller serialises changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = 0
        self._whole = 0  # bytes that were read, but a torn last line
        self._compact_at = COMPACT_AFTER_ROWS
        self._size = 0  # of what is written: appending is at the end alone
        self._last: int | None = None  # where the last appended step begins
        self._last_rows = 0
        self._file: Any = None
        self._lock: int | None = None

    def hold(self, patience: float = 2.0) -> None:
        """Makes the journal ours for the life of the process; a dying predecessor gets `patience` seconds to go.

        Raises OSError when another process keeps it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, f"another process uses {self._path.parent}") from None
                time.sleep(0.05)

    def close(self) -> None:
        """Lets another process have it."""
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            os.close(self._lock)
        self._file = self._lock = None

    def read(self) -> tuple[str, list[Step]]:
        """The uuid and the steps; an empty uuid when there is no journal. Raises JournalError."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return "", []
        self._whole = content.rfind(b"\n") + 1  # what follows is torn
        whole = [line for line in content[: self._whole].split(b"\n") if line]
        if not whole:
            return "", []
        try:
            head = json.loads(whole[0])
            if head.get("version") != VERSION:
                raise JournalError(
                    f"{self._path} has version {head.get('version')}, not {VERSION}: start with --cold to begin afresh"
                )
            steps = [_read_step(json.loads(line)) for line in whole[1:]]
            self._rows = sum(_row_count(step) for step in steps)
            return head["uuid"], steps
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise JournalError(f"{self._path} is damaged ({error}): start with --cold to begin afresh") from error

    def resume(self, present: int) -> None:
        """Goes on behind what was read; `present` is the number of rows that are not history. Raises OSError."""
        self._file = self._path.open("r+b", buffering=0)
        self._file.truncate(self._whole)
        self._file.seek(self._whole)
        self._size = self._whole
        self._compact_at = max(COMPACT_AFTER_ROWS, 2 * present)

    def rewrite(self, uuid: str, step: Step) -> None:
        """Begins anew with the whole state as one step, in one motion. After an OSError nothing has changed."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        head = {"version": VERSION, "uuid": uuid}
        try:
            fresh.write_bytes(json.dumps(head).encode() + b"\n" + _write_step(step))
            file = fresh.open("ab", buffering=0)
            os.replace(fresh, self._path)
        except OSError:
            fresh.unlink(missing_ok=True)  # what there is of it takes room that the journal needs
            raise
        former, self._file, self._last = self._file, file, None
        self._size = file.seek(0, os.SEEK_END)
        self._rows = _row_count(step)
        self._compact_at = max(COMPACT_AFTER_ROWS, 2 * self._rows)
        if former is not None:
            former.close()

    def append(self, step: Step) -> None:
        """Records a step, wholly or not at all. Raises OSError."""
        line = _write_step(step)
        self._last, self._last_rows = self._size, 0
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, f"{self._path} can't grow")
        except OSError:
            self.take_back()  # half a line would spoil the next one
            raise
        self._size += len(line)
        self._last_rows = _row_count(step)
        self._rows += self._last_rows

    def take_back(self) -> None:
        """Forgets the last step that was appended, if there was one since; needs no room. Raises OSError."""
        if self._last is not None:
            self._file.truncate(self._last)
            self._file.seek(self._last)
            self._size = self._last
            self._rows -= self._last_rows
            self._last = None

    @property
    def wants_compaction(self) -> bool:
        """Is most of the file history?"""
        return self._rows > self._compact_at

    def postpone_compaction(self) -> None:
        """It failed: it is wanted again when there is as much history more."""
        self._compact_at = self._rows + COMPACT_AFTER_ROWS


def _row_count(step: Step) -> int:
    """A step without changes has a line as well."""
    return 1 + sum(
        len(change.before) + len(change.after) if isinstance(change, RouteChanges) else 1 for change in step.changes
    )


def _write_step(step: Step) -> bytes:
    changes, counter, initialized = step
    rest = counter, b"true" if initialized else b"false"
    return b'{"changes":[%b],"counter":%d,"initialized":%b}\n' % (b",".join(map(encoded, changes)), *rest)


def _read_step(value: dict[str, Any]) -> Step:
    return Step([decoded(change) for change in value["changes"]], value["counter"], value["initialized"])


def as_step(changes: Iterable[AnyChange], counter: int, *, initialized: bool) -> Step:
    """A step of changes that come as an iterator."""
    return Step(list(changes), counter, initialized)
