"""The server's rules: who hears of which route. Pure; `hub` moves the bytes.

- Every route goes to each subscriber of its VNI once, unless the subscriber is its only source (no echo), and is
  taken back when its last source that the subscriber may hear of is gone. There is no best path: all next hops count.
- A peer announces without subscribing, and keeps its announcements when it unsubscribes.
- Repeated ADD and SUBSCRIBE, unknown REMOVE and UNSUBSCRIBE change nothing.
- A lost peer's routes stay as stale for its grace time. A session that comes from the same address meanwhile is its
  heir: it isn't told its own stale routes, may withdraw them, and may say that those are gone that it hasn't repeated.
- Reflectors don't tell each other what they heard from reflectors: among any number of them each route takes one hop.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.metalbond.routes import Vni
from services.metalbond.runs import Run
from services.metalbond.server.changelog import LAG_ROUTES, SEGMENT_ROUTES, ChangeLog, Follower, Observe, Segment
from services.metalbond.table import RouteTable, Source, Sources
from services.metalbond.wire import ProtocolError, RouteFrame, type_of

_AT_ONCE: Final = 2000  # routes withdrawn or folded in one call
_SLICES: Final = 500  # calls in which all routes are withdrawn whose time is over, if there are more


@dataclass(frozen=True)
class Limits:
    """What one address or one peer may make us hold."""

    routes_per_peer: int = 2_000_000
    subscriptions_per_peer: int = 65_536
    pending_per_peer: int = 1_000_000


class Peer(Source):
    """A session of a peer: a source of routes that may also subscribe.

    `address` is what a returning peer is recognised by: its IP address, or the name it gives. `grace` (s) is how long
    its routes are kept after its loss, the reflector's when None. `told` counts updates that it was sent.
    """

    __slots__ = ("address", "expires_at", "followers", "grace", "predecessors", "ready", "told")

    def __init__(self, name: str, address: str, *, reflector: bool = False, grace: float | None = None) -> None:
        super().__init__(name, reflector=reflector)
        self.address = address
        self.grace = grace
        self.expires_at = 0.0
        self.followers: dict[Vni, Follower] = {}
        self.ready: dict[Follower, None] = {}  # those with something to be told
        self.predecessors: list[Peer] = []
        self.told = 0

    @property
    def depth(self) -> int:
        """Changes that it has yet to be told, at most."""
        return sum(follower.depth for follower in self.followers.values())

    def take(self, size: int, observe: Observe, *, frames: bool = False) -> tuple[list[bytes], list[Vni]]:
        """Buffers of whole frames to send now, about `size` bytes, and VNIs whose table is complete with them. They
        count as told. With `frames` each buffer is one frame."""
        taken: list[bytes] = []
        complete: list[Vni] = []
        while size > 0 and self.ready:
            follower = next(iter(self.ready))
            del self.ready[follower]
            was_transferring = follower.transferring
            buffers = (follower.take_frames if frames else follower.take)(size, observe)
            if was_transferring and not follower.transferring:
                complete.append(follower.log.vni)
            size -= sum(map(len, buffers))
            taken += buffers
            if size <= 0:
                self.ready[follower] = None  # perhaps more; the others first
        return taken, complete


class Reflector:
    """The route table and its subscribers. `grace` (s) is how long a lost peer's routes are kept that asked for
    nothing, zero withdraws them at once; `max_grace` how long at most."""

    def __init__(self, grace: float, limits: Limits | None = None, *, max_grace: float = 3600.0) -> None:
        self.table = RouteTable()
        self.peers: set[Peer] = set()
        self.grace = grace
        self.max_grace = max_grace
        self.limits = limits or Limits()
        self.types: dict[Vni, Counter[int]] = {}
        """Routes by next-hop type, for VNIs with any but STANDARD ones, and without these."""
        self._logs: dict[Vni, ChangeLog] = {}
        self._stale: dict[str, list[Peer]] = {}  # by address, in the order of their loss
        self._reflectors: set[Peer] = set()
        self._woken: set[Peer] = set()

    @property
    def stale(self) -> tuple[Peer, ...]:
        """Lost peers that still supply routes."""
        return tuple(peer for peers in self._stale.values() for peer in peers)

    @property
    def followed(self) -> Iterable[Vni]:
        """VNIs that peers other than reflectors subscribe to."""
        return [vni for vni, log in self._logs.items() if any(not peer.reflector for peer in log.followers)]

    @property
    def has_woken(self) -> bool:
        """Whether `take_woken` has any."""
        return bool(self._woken)

    def take_woken(self) -> set[Peer]:
        """Peers that got something to be told since the last call."""
        woken, self._woken = self._woken, set()
        return woken

    def join(self, peer: Peer) -> None:
        """The peer said HELLO: from now on it may send routes."""
        self.peers.add(peer)
        if peer.reflector:
            self._reflectors.add(peer)
        for lost in self._stale.get(peer.address, ()):
            if lost.heir is None or lost.heir.stale:
                lost.heir = peer
                peer.predecessors.append(lost)

    def leave(self, peer: Peer, now: float) -> None:
        """The session is gone: nothing more is told to it, its routes become stale."""
        self.peers.discard(peer)
        self._woken.discard(peer)
        for vni in list(peer.followers):
            self.unsubscribe(peer, vni)
        shared: dict[Vni, _Changes] = defaultdict(_Changes)
        for vni, route, before, after in self.table.lose(peer, now):
            self._note(shared[vni], vni, route, before, after)
        self._tell(shared, now)
        if peer.routes:
            peer.expires_at = now + (self.grace if peer.grace is None else peer.grace)
            self._stale.setdefault(peer.address, []).append(peer)
            self._bound_stale(peer.address, now)
        else:
            self._reflectors.discard(peer)

    def apply(self, peer: Peer, run: Run, now: float) -> None:
        """Routes came or went. Raises ProtocolError when the peer announces more than it may."""
        if run.removed:
            self._remove(peer, run, now)
            return
        routes, room = run.routes, self.limits.routes_per_peer - peer.route_count
        if len(routes) > room:
            known = peer.routes.get(run.vni, set())
            routes = [route for route in dict.fromkeys(routes) if route not in known]
        self._add(peer, run._replace(routes=routes[: max(0, room)]), now)
        if len(routes) > room:
            raise ProtocolError("too many routes", f"more than {self.limits.routes_per_peer}")

    def subscribe(self, peer: Peer, vni: Vni) -> None:
        """The peer is told all routes of the VNI, then every change. Raises ProtocolError beyond the limit."""
        if vni in peer.followers:
            return
        if len(peer.followers) >= self.limits.subscriptions_per_peer:
            raise ProtocolError("too many subscriptions", f"more than {self.limits.subscriptions_per_peer}")
        self._follow(peer, vni)

    def refresh(self, peer: Peer, vni: Vni) -> None:
        """The peer is told all routes of a VNI once more; of one that it hasn't subscribed to, none."""
        if vni in peer.followers:
            peer.ready.pop(peer.followers[vni], None)
            self._follow(peer, vni)

    def unsubscribe(self, peer: Peer, vni: Vni) -> None:
        """The peer has dropped the VNI's routes; its own announcements stay."""
        follower = peer.followers.pop(vni, None)
        if follower is None:
            return
        peer.ready.pop(follower, None)
        follower.log.leave(peer)
        if not follower.log.followers:
            del self._logs[vni]

    def announced_all(self, peer: Peer, now: float) -> None:
        """The peer repeated all that it announces: what is left of its lost sessions is over."""
        for lost in peer.predecessors:
            if lost.heir is peer:
                lost.expires_at = min(lost.expires_at, now)

    def sweep(self, now: float) -> bool:
        """Withdraws some routes of peers whose grace time is over; True when there is more to do at once."""
        over = [peer for peer in self.stale if now >= peer.expires_at]
        # The more there is, the faster, so that a peer that loses sessions all the time is not ahead of this.
        left = max(_AT_ONCE, sum(peer.route_count for peer in over) // _SLICES)
        for peer in self.stale:
            if now >= peer.expires_at:
                before = peer.route_count
                self._withdraw(peer, left, now)
                left -= before - peer.route_count
            if not peer.routes:
                self._forget(peer.address, peer)
            if left <= 0:
                return any(now >= lost.expires_at for lost in self.stale)
        return False

    def fold(self) -> bool:
        """Lets go of some changes that only slow peers have yet to be told; True when there is more to do at once."""
        limit = _AT_ONCE
        for log in self._logs.values():
            if log.end.before <= LAG_ROUTES:
                continue
            for follower in log.laggards():
                limit -= follower.fold(limit)
                if limit <= 0:
                    return True
        return False

    def overdue(self) -> list[Peer]:
        """Peers that are further behind than they may be."""
        return [
            peer
            for peer in self.peers
            if peer.ready
            and sum(len(follower.pending) for follower in peer.ready) > self.limits.pending_per_peer
        ]  # fmt: skip

    def _follow(self, peer: Peer, vni: Vni) -> None:
        log = self._logs.get(vni)
        if log is None:
            log = self._logs[vni] = ChangeLog(vni)
        follower = log.follow(peer, lambda: (self.table.routes(vni), self._hidden(peer, vni)))
        peer.followers[vni] = follower
        peer.ready[follower] = None
        self._woken.add(peer)

    def _hidden(self, peer: Peer, vni: Vni) -> frozenset[RouteFrame]:
        """Routes of the table that don't concern the peer."""
        table = self.table.routes(vni)
        unheard: Iterable[Source] = (peer, *peer.predecessors, *(self._reflectors if peer.reflector else ()))
        return frozenset(
            route for source in unheard for route in source.routes.get(vni, ()) if not _sees(peer, table[route])
        )

    def _remove(self, peer: Peer, run: Run, now: float) -> None:
        gone = self.table.remove_only(run.vni, run.routes, peer)
        if gone is not None:
            self._count(run.vni, run.type, -len(gone))
            if run.vni in self._logs:
                self._append(run.vni, Segment(gone, removed=True, at=now, source=peer))
            return
        changes = _Changes()
        for route in run.routes:
            before, after = self.table.remove(run.vni, route, peer)
            if before is not after:
                self._note(changes, run.vni, route, before, after, run.type)
        self._tell({run.vni: changes}, now)

    def _add(self, peer: Peer, run: Run, now: float) -> None:
        new = self.table.add_new(run.vni, run.routes, peer) if run.routes else None
        if new is not None:
            self._count(run.vni, run.type, len(new))
            if run.vni in self._logs:
                self._append(run.vni, Segment(new, removed=False, at=now, source=peer))
            return
        changes = _Changes()
        for route in run.routes:
            before, after = self.table.add(run.vni, route, peer)
            if before is not after:
                self._note(changes, run.vni, route, before, after, run.type)
        self._tell({run.vni: changes}, now)

    def _bound_stale(self, address: str, now: float) -> None:
        # An address that reconnects all the time with new routes holds no more of them than one session may.
        lost = [peer for peer in self._stale[address] if peer.expires_at > now]
        while len(lost) > 1 and sum(peer.route_count for peer in lost) > self.limits.routes_per_peer:
            lost.pop(0).expires_at = now

    def _forget(self, address: str, peer: Peer) -> None:
        self._reflectors.discard(peer)
        self._stale[address].remove(peer)
        if peer.heir is not None and isinstance(peer.heir, Peer) and peer in peer.heir.predecessors:
            peer.heir.predecessors.remove(peer)
        if not self._stale[address]:
            del self._stale[address]

    def _withdraw(self, peer: Peer, limit: int, now: float) -> None:
        changes: dict[Vni, _Changes] = defaultdict(_Changes)
        for vni, route, before, after in self.table.forget(peer, limit):
            self._note(changes[vni], vni, route, before, after)
        self._tell(changes, now)

    def _note(
        self, changes: _Changes, vni: Vni, route: RouteFrame, before: Sources, after: Sources, kind: int | None = None
    ) -> None:
        """Adds, for whoever sees one, the difference that the change of sources makes."""
        if len(before) + len(after) == 1:  # came or went with its only source: nearly always
            if kind or (kind is None and self.types):
                self._count(vni, kind or type_of(route), 1 if after else -1)
            changes[(before or after)[0], None, not after].append(route)
            return
        if vni not in self._logs:
            return
        # Somebody else supplied it all along: only sources, their heirs and reflectors can see a difference.
        concerned = {*before, *after, *(source.heir for source in before + after)}
        if any(source.reflector for source in before + after):
            concerned |= self._reflectors
        followers = self._logs[vni].followers
        for peer in concerned:
            if peer in followers and (sees := _sees(peer, after)) != _sees(peer, before):
                changes[None, peer, not sees].append(route)

    def _tell(self, changes: dict[Vni, _Changes], now: float) -> None:
        for vni, segments in changes.items():
            if vni in self._logs:
                for (source, only, removed), routes in segments.items():
                    self._append(vni, Segment(routes, removed, now, source, only))

    def _append(self, vni: Vni, segment: Segment) -> None:
        if len(segment.routes) > SEGMENT_ROUTES:
            for part in segment.split():
                self._append(vni, part)
            return
        for follower in self._logs[vni].append(segment):
            follower.peer.ready[follower] = None
            self._woken.add(follower.peer)

    def _count(self, vni: Vni, kind: int, change: int) -> None:
        if not kind:
            return
        counts = self.types.setdefault(vni, Counter())
        counts[kind] += change
        if not counts[kind]:
            del counts[kind]
            if not counts:
                del self.types[vni]


class _Changes(defaultdict[tuple[Source | None, Source | None, bool], list[RouteFrame]]):
    """Routes by the source whose routes came or went, or the only peer that is told, and whether they went."""

    def __init__(self) -> None:
        super().__init__(list)


def _sees(peer: Source, sources: Sources) -> bool:
    """Whether somebody supplies the route whose routes concern the peer."""
    return any(source.is_heard_by(peer) for source in sources)
