"""The journal: what a restarted process has to know that packets don't (ids, host names), one JSON object a line.

The first line is the head (version, uuid), each later one a step: its changes, the address counter, and whether
Initialize was called. A step is written before packets follow it. There is no fsync: a machine that loses its page
cache loses its BPF maps too, and then both start afresh under a new uuid. A torn last line was never answered.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any, Final

from services.dpservice.model.rows import (
    Change,
    Function,
    FunctionKey,
    FunctionKind,
    Hop,
    Interface,
    InterfaceId,
    InterfaceKey,
    Key,
    LocalHop,
    PortNumber,
    RemoteHop,
    RouteKey,
    Row,
    Vni,
)
from services.dpservice.model.underlay import UnderlayAddress

VERSION: Final = 1
COMPACT_AFTER_LINES: Final = 10_000  # and when half of the lines are history


class JournalError(Exception):
    """The journal's version is unknown or its content makes no sense; the text says what to do."""


@dataclass(frozen=True)
class Step:
    """What one call did."""

    changes: Sequence[Change]
    counter: int
    initialized: bool


class Journal:
    """The file below the state directory. Not safe for two threads: the caller serialises changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = 0
        self._compact_at = COMPACT_AFTER_LINES
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
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return "", []
        whole = [line for line in lines[:-1] if line]  # what follows the last newline is torn
        if not whole:
            return "", []
        try:
            head = json.loads(whole[0])
            if head.get("version") != VERSION:
                raise JournalError(
                    f"{self._path} has version {head.get('version')}, not {VERSION}: start with --cold to begin afresh"
                )
            return head["uuid"], [_read_step(json.loads(line)) for line in whole[1:]]
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(f"{self._path} is damaged ({error}): start with --cold to begin afresh") from error

    def rewrite(self, uuid: str, step: Step) -> None:
        """Begins anew with the whole state as one step, in one motion."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        head = {"version": VERSION, "uuid": uuid}
        fresh.write_text(f"{json.dumps(head)}\n{_write_step(step)}\n")
        os.replace(fresh, self._path)
        if self._file is not None:
            self._file.close()
        self._file = self._path.open("ab", buffering=0)
        self._lines = len(step.changes)
        self._compact_at = max(COMPACT_AFTER_LINES, 2 * self._lines)

    def append(self, step: Step) -> None:
        """Records a step, wholly or not at all. Raises OSError."""
        line, end = f"{_write_step(step)}\n".encode(), self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, f"{self._path} can't grow")
        except OSError:
            self._file.truncate(end)  # half a line would spoil the next one
            self._file.seek(end)
            raise
        self._lines += 1

    @property
    def wants_compaction(self) -> bool:
        """Is most of the file history?"""
        return self._lines > self._compact_at


def _write_step(step: Step) -> str:
    rows = [[_key_text(change.key), _row_text(change.before), _row_text(change.after)] for change in step.changes]
    return json.dumps(
        {"changes": rows, "counter": step.counter, "initialized": step.initialized}, separators=(",", ":")
    )


def _read_step(value: dict[str, Any]) -> Step:
    changes = [Change(_read_key(key), _read_row(before), _read_row(after)) for key, before, after in value["changes"]]
    return Step(changes, value["counter"], value["initialized"])


def _key_text(key: Key) -> list[Any]:
    match key:
        case InterfaceKey():
            return ["interface", key.id]
        case RouteKey():
            return ["route", key.vni, str(key.prefix)]
        case FunctionKey():
            return ["function", str(key.underlay)]
    raise TypeError(f"not journaled: {key}")


def _read_key(value: list[Any]) -> Key:
    match value:
        case ["interface", interface_id]:
            return InterfaceKey(InterfaceId(interface_id))
        case ["route", vni, prefix]:
            return RouteKey(Vni(vni), ip_network(prefix))
        case ["function", underlay]:
            return FunctionKey(UnderlayAddress(IPv6Address(underlay)))
    raise ValueError(f"unknown key {value}")


def _row_text(row: Row | None) -> dict[str, Any] | None:
    match row:
        case None:
            return None
        case Interface():
            return {field.name: _plain(getattr(row, field.name)) for field in fields(row)}
        case LocalHop():
            return {"port": row.port}
        case RemoteHop():
            return {"underlay": str(row.underlay), "vni": row.vni}
        case Function():
            return {"kind": int(row.kind), "vni": row.vni, "port": row.port, "prefix": _plain(row.prefix)}
    raise TypeError(f"not journaled: {row}")


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, str | int) else str(value)


def _read_row(value: dict[str, Any] | None) -> Row | None:
    if value is None:
        return None
    if "device" in value:
        return Interface(
            id=InterfaceId(value["id"]),
            port=PortNumber(value["port"]),
            device=value["device"],
            vni=Vni(value["vni"]),
            ipv4=IPv4Address(value["ipv4"]) if value["ipv4"] else None,
            ipv6=IPv6Address(value["ipv6"]) if value["ipv6"] else None,
            underlay=UnderlayAddress(IPv6Address(value["underlay"])),
            hostname=value["hostname"],
            next_server=value["next_server"],
            boot_filename=value["boot_filename"],
        )
    if "kind" in value:
        prefix = ip_network(value["prefix"]) if value["prefix"] else None
        return Function(FunctionKind(value["kind"]), Vni(value["vni"]), PortNumber(value["port"]), prefix)
    return _read_hop(value)


def _read_hop(value: dict[str, Any]) -> Hop:
    if "underlay" in value:
        return RemoteHop(UnderlayAddress(IPv6Address(value["underlay"])), Vni(value["vni"]))
    return LocalHop(PortNumber(value["port"]))


def as_step(changes: Iterable[Change], counter: int, *, initialized: bool) -> Step:
    """A step of changes that come as an iterator."""
    return Step(list(changes), counter, initialized)
