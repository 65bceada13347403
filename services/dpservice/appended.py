"""A file that grows at its end, whole lines at a time, for the price of a copy in memory.

A line is in the page cache when `append` returns, which survives the process, not the machine. The end of the file is
mapped ahead, with blocks allocated, so that most lines need no system call; until `close` zeros follow the last line.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

WINDOW: Final = 1 << 18  # bytes that are mapped at once
NEWLINE: Final = ord("\n")


class AppendedFile:
    """An existing file, of which the first `size` bytes are kept. Not safe for two threads."""

    def __init__(self, path: Path, size: int) -> None:
        """Raises OSError."""
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._window: mmap.mmap | None = None
        self._base = self._at = self._end = 0  # of the window: its place in the file; next byte and size
        self.cut(size)

    @property
    def size(self) -> int:
        """Of all lines, in bytes."""
        return self._base + self._at

    def append(self, line: bytes) -> None:
        """Adds a line, without its newline, wholly or not at all. Raises OSError."""
        start, end = self._at, self._at + len(line)
        if end >= self._end or self._window is None:
            self._write(line + b"\n")
            return
        self._window[start:end] = line
        self._window[end] = NEWLINE  # last: a line without is none, wherever the process is killed
        self._at = end + 1

    def _write(self, line: bytes) -> None:
        size = self.size
        try:
            if os.pwrite(self._fd, line, size) != len(line):
                raise OSError(errno.ENOSPC, f"{self._path} can't grow")
        except OSError:
            self.cut(size)  # half a line would spoil the next one
            raise
        self._look_at(size + len(line))

    def _look_at(self, size: int) -> None:
        """Maps what comes behind the first `size` bytes; where there is no room for it, each line is written."""
        self._forget_window()
        self._base = size - size % mmap.ALLOCATIONGRANULARITY
        self._at = size - self._base
        with suppress(OSError):
            os.posix_fallocate(self._fd, self._base, WINDOW)
            self._window, self._end = mmap.mmap(self._fd, WINDOW, offset=self._base), WINDOW

    def _forget_window(self) -> None:
        if self._window is not None:
            self._window.close()
        self._window, self._end = None, 0

    def cut(self, size: int) -> None:
        """Leaves the first `size` bytes; needs no room. Raises OSError."""
        self._forget_window()
        self._base, self._at = size, 0
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        """Leaves nothing behind the last line. Raises OSError."""
        try:
            self.cut(self.size)
        finally:
            os.close(self._fd)
