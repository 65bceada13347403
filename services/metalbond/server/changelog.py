"""What happened to a VNI's routes, kept once for all who follow it.

Each change is a segment: routes that came or went together. Followers are positions in a chain of segments, so that a
change costs the same however many follow, its bytes are made once, and what all have read is free. What a follower was
told, plus what is left of its base, its pending difference and the segments from its position on, in this order, is the
table as the follower is to see it:

- `base`: the table as it was when the follower was first told something, shared by those that begin between two
  changes; before that there is none, so that whoever subscribes and leaves again costs nothing;
- `pending`: the net of the segments that the follower was too slow for; a follower that never reads holds this and not
  the chain, and routes that came and went meanwhile leave no trace in it;
- the chain from `position` on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final
from weakref import ref

from services.metalbond.pending import Pending
from services.metalbond.routes import Vni
from services.metalbond.runs import removals
from services.metalbond.table import Source
from services.metalbond.wire import RouteFrame, removal

if TYPE_CHECKING:
    from services.metalbond.server.reflector import Peer

LAG_ROUTES: Final = 50_000  # a follower that is further behind is folded
SEGMENT_ROUTES: Final = 4096  # that callers keep to, so that a follower can be told in portions
SEGMENT_BYTES: Final = 512 * 1024  # more than a segment has
BLOCK_ROUTES: Final = 2048  # of a base; about 75 kB

Look = Callable[[], tuple[Mapping[RouteFrame, object], frozenset[RouteFrame]]]
"""The VNI's table, and which of its routes a follower may not see, as they are now."""

Observe = Callable[[float, int], None]
"""Told the time (s) at which routes changed, when a follower is told of them, and how many."""


class Segment:
    """Routes that came, or went, at a time. Told to `only`, or to all whom `source`'s routes concern."""

    __slots__ = ("_joined", "at", "only", "removed", "routes", "source")

    def __init__(
        self,
        routes: list[RouteFrame],
        removed: bool,
        at: float,
        source: Source | None = None,
        only: Source | None = None,
    ) -> None:
        self.routes, self.removed, self.at, self.source, self.only = routes, removed, at, source, only
        self._joined: bytes | None = None

    def concerns(self, peer: Peer) -> bool:
        """Whether the peer is told."""
        if self.only is not None:
            return self.only is peer
        return self.source is None or self.source.is_heard_by(peer)

    def split(self) -> list[Segment]:
        """The same in segments that aren't too long."""
        parts = (self.routes[at : at + SEGMENT_ROUTES] for at in range(0, len(self.routes), SEGMENT_ROUTES))
        return [Segment(part, self.removed, self.at, self.source, self.only) for part in parts]

    def joined(self) -> bytes:
        """Its frames as bytes, made once."""
        if self._joined is None:
            self._joined = removals(self.routes) if self.removed else b"".join(self.routes)
        return self._joined


class Position:
    """A place between segments; the one at the chain's end gets its segment later."""

    __slots__ = ("before", "following", "segment")

    def __init__(self, before: int) -> None:
        self.before = before  # routes in all segments before
        self.segment: Segment | None = None
        self.following: Position | None = None


_NOWHERE: Final = Position(0)


class Base:
    """A table as it was, in blocks."""

    __slots__ = ("__weakref__", "blocks", "routes")

    def __init__(self, routes: list[RouteFrame]) -> None:
        self.routes = len(routes)
        self.blocks = [
            Segment(routes[at : at + BLOCK_ROUTES], removed=False, at=0.0) for at in range(0, len(routes), BLOCK_ROUTES)
        ]


class ChangeLog:
    """The changes of one VNI."""

    def __init__(self, vni: Vni) -> None:
        self.vni = vni
        self.end = Position(0)
        self.followers: dict[Source, Follower] = {}
        self._idle: dict[Follower, None] = {}
        self._busy: dict[Follower, None] = {}
        self._base: tuple[int, ref[Base]] | None = None

    def follow(self, peer: Peer, look: Look) -> Follower:
        """The peer is told the table, then every change that concerns it. One that follows already begins again."""
        self.leave(peer)
        follower = self.followers[peer] = Follower(peer, self, look)
        self._busy[follower] = None
        return follower

    def leave(self, peer: Peer) -> None:
        """The peer is told nothing more."""
        if follower := self.followers.pop(peer, None):
            self._idle.pop(follower, None)
            self._busy.pop(follower, None)

    def append(self, segment: Segment) -> list[Follower]:
        """The change happened. Returns followers that had nothing to be told before and have now."""
        here = self.end
        here.segment = segment
        here.following = self.end = Position(here.before + len(segment.routes))
        woken: list[Follower] = []
        if segment.only is not None:
            follower = self.followers.get(segment.only)
            woken = [follower] if follower in self._idle and follower is not None else []
        else:
            woken = [follower for follower in self._idle if segment.concerns(follower.peer)]
        for follower in woken:
            follower.position = here
            del self._idle[follower]
            self._busy[follower] = None
        return woken

    def laggards(self) -> list[Follower]:
        """Followers that are far behind, and so keep segments from being freed."""
        return [follower for follower in self._busy if follower.lag > LAG_ROUTES]

    def rest(self, follower: Follower) -> None:
        """The follower was told everything. It lets go of the chain, whose next segments may not concern it."""
        follower.position = _NOWHERE
        del self._busy[follower]
        self._idle[follower] = None

    def base(self, table: Mapping[RouteFrame, object]) -> Base:
        """The table as it is."""
        if self._base is not None and self._base[0] == self.end.before and (known := self._base[1]()) is not None:
            return known
        base = Base(list(table))
        self._base = (self.end.before, ref(base))
        return base


class Follower:
    """What one peer has yet to be told of one VNI."""

    __slots__ = ("_base", "_block", "_look", "_offset", "hidden", "log", "peer", "pending", "position")

    def __init__(self, peer: Peer, log: ChangeLog, look: Look) -> None:
        self.peer, self.log = peer, log
        self._look: Look | None = look
        self.hidden: frozenset[RouteFrame] = frozenset()
        self.pending = Pending()
        self.position = _NOWHERE
        self._base: Base | None = None
        self._block = 0
        self._offset = 0  # routes already told of the block or segment at hand

    @property
    def lag(self) -> int:
        """Routes in the chain from its position on; zero for one that was told everything."""
        return 0 if self.position.segment is None else self.log.end.before - self.position.before

    @property
    def depth(self) -> int:
        """Changes that it has yet to be told, at most."""
        if self._look is not None:
            return len(self._look()[0])
        base = 0 if self._base is None else self._base.routes - self._block * BLOCK_ROUTES
        return max(0, base) + len(self.pending) + self.lag - (self._offset if self._base is None else 0)

    @property
    def transferring(self) -> bool:
        """The table has not been told yet."""
        return self._look is not None or self._base is not None

    def fold(self, limit: int) -> int:
        """Turns about `limit` routes of the chain into a pending difference; returns how many it was."""
        folded = 0
        while folded < limit and (segment := self.position.segment) is not None:
            offset, self._offset = (self._offset, 0) if self._base is None else (0, self._offset)
            folded += len(segment.routes) - offset
            if segment.concerns(self.peer):
                routes = segment.routes[offset:] if offset else segment.routes
                (self.pending.remove_all if segment.removed else self.pending.add_all)(routes)
            self._advance()
        return folded

    def take(self, size: int, observe: Observe) -> list[bytes]:
        """Buffers of whole frames to send now, together about `size` bytes and not much more; they count as told."""
        self._begin()
        taken: list[bytes] = []
        while size > 0 and (buffer := self._next_buffer(size, observe)) is not None:
            if buffer:
                taken.append(buffer)
                size -= len(buffer)
        return taken

    def take_frames(self, size: int, observe: Observe) -> list[bytes]:
        """As `take`, frame by frame; one at least."""
        self._begin()
        taken: list[bytes] = []
        while size > 0 and (frames := self._next_frames(size, observe)) is not None:
            taken += frames
            size -= sum(map(len, frames))
        return taken

    def _begin(self) -> None:
        if self._look is not None:
            table, self.hidden = self._look()
            self._base, self.position, self._look = self.log.base(table), self.log.end, None

    def _next_buffer(self, size: int, observe: Observe) -> bytes | None:
        if self._offset:  # what `take_frames` began
            return b"".join(self._next_frames(SEGMENT_BYTES, observe) or ())
        if self._base is not None:
            return self._next_block()
        if self.pending:
            frames = self.pending.take_frames(size)
            self.peer.told += len(frames)
            return b"".join(frames)
        segment = self._next_segment()
        if segment is None:
            return None
        self._advance()
        self.peer.told += len(segment.routes)
        observe(segment.at, len(segment.routes))
        return segment.joined()

    def _next_block(self) -> bytes:
        base = self._base
        if base is None or self._block >= len(base.blocks):
            self._end_transfer()
            return b""
        block = base.blocks[self._block]
        self._block += 1
        wanted = self._wanted(block.routes)
        self.peer.told += len(wanted)
        return block.joined() if wanted is block.routes else b"".join(wanted)

    def _next_frames(self, size: int, observe: Observe) -> list[bytes] | None:
        if self._base is not None:
            return self._next_block_frames(size)
        if self.pending:
            frames = self.pending.take_frames(size)
            self.peer.told += len(frames)
            return frames
        segment = self._next_segment()
        if segment is None:
            return None
        routes = _fitting(segment.routes, self._offset, size)
        self._offset += len(routes)
        if self._offset == len(segment.routes):
            self._offset = 0
            self._advance()
        observe(segment.at, len(routes))
        self.peer.told += len(routes)
        return [removal(route) for route in routes] if segment.removed else [*routes]

    def _next_block_frames(self, size: int) -> list[bytes]:
        base = self._base
        if base is None or self._block >= len(base.blocks):
            self._end_transfer()
            return []
        block = base.blocks[self._block].routes
        routes = _fitting(block, self._offset, size)
        self._offset += len(routes)
        if self._offset == len(block):
            self._offset, self._block = 0, self._block + 1
        wanted = self._wanted(routes)
        self.peer.told += len(wanted)
        return [*wanted]

    def _end_transfer(self) -> None:
        self._base, self.hidden = None, frozenset()

    def _wanted(self, routes: list[RouteFrame]) -> list[RouteFrame]:
        """Those that the follower may see and that are not gone already; these count as told and taken back."""
        gone = self.pending.removed
        if not self.hidden and not gone:
            return routes
        wanted = [route for route in routes if route not in self.hidden and route not in gone]
        if gone:
            for route in routes:
                gone.pop(route, None)
        return wanted

    def _next_segment(self) -> Segment | None:
        """The next one that concerns the peer; without any, the follower rests."""
        while (segment := self.position.segment) is not None:
            if segment.concerns(self.peer):
                return segment
            self._advance()
        self.log.rest(self)
        return None

    def _advance(self) -> None:
        assert self.position.following is not None
        self.position = self.position.following


def _fitting(routes: list[RouteFrame], start: int, size: int) -> list[RouteFrame]:
    """Routes from `start` on whose frames, as removals at most, fill `size` bytes; one at least."""
    count = 0
    for route in islice(routes, start, None):
        size -= len(route) + 2
        if size < 0 and count:
            break
        count += 1
    return routes[start : start + count]
