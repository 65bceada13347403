"""Keeps console logs small: QEMU appends to them for ever, and no log daemon can be relied on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from services.common.logs import get_logger

log = get_logger(__name__)

LOOK_SECONDS: Final = 5.0


class ConsoleLogs:
    """Moves a log that has outgrown `limit` bytes to `console.log.1`, whose last `limit` bytes are kept.

    QEMU holds the file open for appending, so it is copied and cut rather than renamed; what is written between the
    two, in microseconds, is lost.
    """

    def __init__(self, machines: Path, limit: int) -> None:
        self._machines = machines
        self._limit = limit

    async def run(self) -> None:
        """Looks every LOOK_SECONDS until cancelled; a failure with one file does not end it."""
        while True:
            await asyncio.to_thread(self.trim)
            await asyncio.sleep(LOOK_SECONDS)

    def trim(self) -> None:
        """One look at all logs."""
        for path in self._machines.glob("*/logs/console.log"):
            try:
                if path.stat().st_size > self._limit:
                    rotate(path, self._limit)
            except OSError as error:
                log.warning("console log was not trimmed", path=str(path), error=str(error))


def rotate(path: Path, keep: int) -> None:
    """Copies the last `keep` bytes to `<path>.1` and empties the file."""
    old = path.with_name(path.name + ".1")
    temporary = path.with_name("." + old.name)
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - keep))
        temporary.write_bytes(file.read(keep))
        temporary.rename(old)
        file.truncate(0)
