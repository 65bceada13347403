"""Frames in bulk: a byte stream cut into runs of routes that share their VNI, next-hop type and direction.

The reflector handles a run at a time, so that the interpreter's cost is paid per read and not per route. `native`
holds the same two functions in C, which take all frames in canonical form; without it everything still works.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Final, NamedTuple

from services.metalbond.routes import Vni
from services.metalbond.wire import (
    HEADER,
    HEADER_SIZE,
    REMOVE_FIELD,
    VERSION,
    Frame,
    FrameType,
    ProtocolError,
    RouteFrame,
    Update,
    decode,
    decode_update,
    removal,
    type_of,
    vni_of,
)

_FLAPPING: Final = 4  # changes of direction, beyond which it is worth while to look at each route


class Run(NamedTuple):
    """Routes that came or went one after the other. `type` is their next hops'."""

    removed: bool
    vni: Vni
    type: int
    routes: list[RouteFrame]


def run_of(update: Update) -> Run:
    """A run of one route."""
    return Run(update.removed, update.vni, type_of(update.route), [update.route])


def merged(runs: list[Run]) -> list[Run]:
    """The same with fewer runs. What happens to one route stays in order; different VNIs and types may swap places."""
    if len(runs) < 2:
        return runs
    found: list[Run] = []
    latest: dict[tuple[Vni, int], Run] = {}
    for run in runs:
        key = run[1:3]
        known = latest.get(key)
        if known is not None and known[0] == run[0]:
            known[3].extend(run[3])
        else:
            latest[key] = run
            found.append(run)
    return found


def net(runs: list[Run]) -> list[Run]:
    """What the runs come to: as `merged`, and of a route that comes and goes again and again only the last word counts,
    so that a peer whose routes flap costs those that hear of them no more than others."""
    found = merged(runs)
    if len(found) <= _FLAPPING * len({run[1:3] for run in found}):
        return found
    last: dict[tuple[Vni, int], dict[RouteFrame, bool]] = {}
    for removed, vni, kind, routes in found:
        last.setdefault((vni, kind), {}).update(dict.fromkeys(routes, removed))
    return [
        Run(removed, vni, kind, part)
        for removed in (False, True)  # what came first: a destination that moves is never without a hop
        for (vni, kind), routes in last.items()
        if (part := [route for route, gone in routes.items() if gone is removed])
    ]


Scan = Callable[[bytes | bytearray, int], tuple[list[Run], int]]
"""Runs of the updates from a position on, and where they end: at a frame that is incomplete, no update, or bad."""


# The payload of nearly every update: in canonical form, to a next hop that is an IPv6 address and perhaps a type other
# than NAT. Groups: REMOVE, VNI, type.
_USUAL: Final = re.compile(
    rb"(\x08\x01)?"
    rb"(?:\x10([\x01-\x7f]|[\x80-\xff][\x01-\x7f]|[\x80-\xff]{2}[\x01-\x7f]|[\x80-\xff]{3}[\x01-\x07]))?"
    rb"(?:\x1a\x08\x12\x04.{4}\x18[\x01-\x20]|\x1a\x17\x08\x01\x12\x10.{16}\x18\x80\x01"
    rb"|\x1a\x16\x08\x01\x12\x10.{16}\x18[\x01-\x7f]|\x1a\x06\x12\x04.{4}|\x1a\x14\x08\x01\x12\x10.{16})"
    rb"(?:\x22\x12\x0a\x10.{16}|\x22\x14\x0a\x10.{16}\x18([\x02-\x7f]))",
    re.DOTALL,
).fullmatch


def python_scan(stream: bytes | bytearray, start: int) -> tuple[list[Run], int]:
    """`Scan` without the accelerator; takes updates that are not in canonical form, too."""
    runs: list[Run] = []
    current: tuple[bytes | None, ...] = ()
    while len(stream) - start >= HEADER_SIZE:
        version, size, kind = HEADER.unpack_from(stream, start)
        end = start + HEADER_SIZE + size
        if version != VERSION or kind != FrameType.UPDATE or end > len(stream):
            break
        frame = bytes(stream[start:end])
        start = end
        usual = _USUAL(frame, HEADER_SIZE)
        if usual is not None:
            route = RouteFrame(frame if usual[1] is None else _added(frame))
            if runs and current == usual.groups():
                runs[-1].routes.append(route)
                continue
            current = usual.groups()
            runs.append(Run(usual[1] is not None, vni_of(route), ord(usual[3] or b"\0"), [route]))
            continue
        try:
            runs.append(run_of(decode_update(frame[HEADER_SIZE:])))
        except ProtocolError:
            start -= len(frame)
            break
        current = ()
    return runs, start


def _added(frame: bytes) -> bytes:
    """The frame that adds what a frame in canonical form removes."""
    payload = frame[HEADER_SIZE + len(REMOVE_FIELD) :]
    return HEADER.pack(VERSION, len(payload), FrameType.UPDATE) + payload


def python_removals(routes: list[RouteFrame]) -> bytes:
    """The frames that take the routes back, joined."""
    return b"".join(map(removal, routes))


scan: Scan = python_scan
removals: Callable[[list[RouteFrame]], bytes] = python_removals


def _accelerator() -> ModuleType | None:
    try:
        return import_module("services.metalbond._frames")
    except ImportError:  # not built, or for another machine
        return None


_native = _accelerator()
ACCELERATED: Final = _native is not None
if _native is not None:
    removals = _native.removals
    _native_scan = _native.scan

    def scan(stream: bytes | bytearray, start: int) -> tuple[list[Run], int]:
        """`Scan` in C; stops at updates that are not in canonical form as well."""
        runs, end = _native_scan(stream, start)
        return [Run(*run) for run in runs], end


class Splitter:
    """Cuts a byte stream wherever reads happen to end; holds at most one incomplete frame."""

    def __init__(self, scan: Scan = scan) -> None:
        self._scan = scan
        self._rest = bytearray()
        self._wanted = 0

    @property
    def incomplete(self) -> bool:
        """Whether what was fed so far ends inside a frame."""
        return bool(self._rest)

    def feed(self, data: bytes) -> Iterator[Run | Frame]:
        """What `data` completes: runs of updates, `merged`, and all other frames one by one in their places.

        Raises ProtocolError for a bad frame, after those before it.
        """
        stream: bytes | bytearray = data
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            stream, self._rest = self._rest, bytearray()
        at, self._wanted = 0, 0
        while True:
            runs, at = self._scan(stream, at)
            yield from merged(runs)
            if len(stream) - at < HEADER_SIZE:
                break
            version, size, kind = HEADER.unpack_from(stream, at)
            if version != VERSION:
                raise ProtocolError("bad version", f"a frame says {version}, only {VERSION} exists")
            body = at + HEADER_SIZE
            if body + size > len(stream):
                self._wanted = HEADER_SIZE + size
                break
            at = body + size
            frame = decode(kind, bytes(stream[body:at]))
            yield (
                Run(frame.removed, frame.vni, type_of(frame.route), [frame.route])
                if isinstance(frame, Update)
                else frame
            )
        self._rest = bytearray(stream[at:])
