"""The server's rules: who hears of which route. Pure; `server` moves the bytes.

- Every route goes to each subscriber of its VNI once, unless the subscriber is its only source (no echo), and is
  taken back when its last source that the subscriber may hear of is gone. There is no best path: all next hops count.
- A peer announces without subscribing, and keeps its announcements when it unsubscribes.
- Repeated ADD and SUBSCRIBE, unknown REMOVE and UNSUBSCRIBE change nothing.
- A lost peer's routes stay as stale for the grace time. A session that comes from the same address meanwhile is its
  heir: it isn't told its own stale routes, and may withdraw them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from services.metalbond.pending import Pending
from services.metalbond.routes import Vni
from services.metalbond.table import RouteTable, Source, Sources
from services.metalbond.wire import ProtocolError, RouteFrame, Update, vni_of

_SWEPT_AT_ONCE: Final = 1000


@dataclass(frozen=True)
class Limits:
    """What one address or one peer may make us hold."""

    routes_per_peer: int = 2_000_000
    subscriptions_per_peer: int = 65_536


class Peer(Source):
    """A session of a peer: a source of routes that may also subscribe. `address` is its IP address."""

    __slots__ = ("address", "pending", "subscriptions")

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name)
        self.address = address
        self.subscriptions: set[Vni] = set()
        self.pending = Pending()


class Reflector:
    """The route table and its subscribers. `grace` in seconds; zero withdraws a lost peer's routes at once."""

    def __init__(self, grace: float, limits: Limits | None = None) -> None:
        self.table = RouteTable()
        self.peers: set[Peer] = set()
        self.grace = grace
        self.limits = limits or Limits()
        self._subscribers: dict[Vni, set[Peer]] = {}
        self._stale: deque[Peer] = deque()  # in the order of their loss
        self._woken: set[Peer] = set()

    @property
    def stale(self) -> tuple[Peer, ...]:
        """Lost peers that still supply routes."""
        return tuple(self._stale)

    def take_woken(self) -> set[Peer]:
        """Peers that got something pending since the last call."""
        woken, self._woken = self._woken, set()
        return woken

    def join(self, peer: Peer) -> None:
        """The peer said HELLO: from now on it may send routes."""
        self.peers.add(peer)
        for lost in self._stale:
            if lost.address == peer.address and (lost.heir is None or lost.heir.stale):
                lost.heir = peer

    def leave(self, peer: Peer, now: float) -> None:
        """The session is gone: nothing more is told to it, its routes become stale."""
        self.peers.discard(peer)
        self._woken.discard(peer)
        for vni in list(peer.subscriptions):
            self._forget_subscription(peer, vni)
        for _, route, before, after in self.table.lose(peer, now):
            self._tell(route, before, after)
        if peer.routes:
            self._stale.append(peer)
            self._bound_stale(peer.address)

    def update(self, peer: Peer, update: Update) -> None:
        """A route came or went. Raises ProtocolError when the peer announces more than it may."""
        if update.removed:
            before, after = self.table.remove(update.vni, update.route, peer)
        else:
            if peer.route_count >= self.limits.routes_per_peer:
                raise ProtocolError("too many routes", f"more than {self.limits.routes_per_peer}")
            before, after = self.table.add(update.vni, update.route, peer)
        if before is not after:
            self._tell(update.route, before, after, update.vni)

    def subscribe(self, peer: Peer, vni: Vni) -> None:
        """The peer is told all routes of the VNI, then every change. Raises ProtocolError beyond the limit."""
        if vni in peer.subscriptions:
            return
        if len(peer.subscriptions) >= self.limits.subscriptions_per_peer:
            raise ProtocolError("too many subscriptions", f"more than {self.limits.subscriptions_per_peer}")
        peer.subscriptions.add(vni)
        self._subscribers.setdefault(vni, set()).add(peer)
        for route, sources in self.table.routes(vni).items():
            if _sees(peer, sources):
                peer.pending.add(route)
        self._woken.add(peer)

    def unsubscribe(self, peer: Peer, vni: Vni) -> None:
        """The peer has dropped the VNI's routes; its own announcements stay."""
        if vni in peer.subscriptions:
            self._forget_subscription(peer, vni)
            peer.pending.forget(lambda route: vni_of(route) == vni)

    def sweep(self, now: float) -> bool:
        """Withdraws some routes of peers whose grace time is over; True when there is more to do at once."""
        if not self._stale or not self._over(self._stale[0], now):
            return False
        self._withdraw(self._stale[0], _SWEPT_AT_ONCE)
        while self._stale and not self._stale[0].routes:
            self._stale.popleft()
        return bool(self._stale) and self._over(self._stale[0], now)

    def _over(self, peer: Peer, now: float) -> bool:
        return peer.lost_at is not None and now >= peer.lost_at + self.grace

    def _bound_stale(self, address: str) -> None:
        # An address that reconnects all the time with new routes holds no more of them than one session may.
        lost = [peer for peer in self._stale if peer.address == address]
        while len(lost) > 1 and sum(peer.route_count for peer in lost) > self.limits.routes_per_peer:
            oldest = lost.pop(0)
            self._withdraw(oldest, oldest.route_count)
            self._stale.remove(oldest)

    def _withdraw(self, peer: Peer, limit: int) -> None:
        for vni, route, before, after in self.table.forget(peer, limit):
            self._tell(route, before, after, vni)

    def _forget_subscription(self, peer: Peer, vni: Vni) -> None:
        peer.subscriptions.discard(vni)
        subscribers = self._subscribers[vni]
        subscribers.discard(peer)
        if not subscribers:
            del self._subscribers[vni]

    def _tell(self, route: RouteFrame, before: Sources, after: Sources, vni: Vni | None = None) -> None:
        """Makes pending, for each subscriber, the difference that the change of sources makes in its eyes."""
        subscribers = self._subscribers.get(vni_of(route) if vni is None else vni)
        if not subscribers:
            return
        if len(before) + len(after) == 1:
            self._tell_of_only_source(route, subscribers, (before or after)[0], came=bool(after))
            return
        if before and after:
            # Somebody else supplied it all along: only the sources themselves and their heirs can see a difference.
            concerned = {*before, *after, *(source.heir for source in before + after)}
            subscribers = {peer for peer in subscribers if peer in concerned}
        for peer in subscribers:
            saw, sees = _sees(peer, before), _sees(peer, after)
            if sees and not saw:
                peer.pending.add(route)
            elif saw and not sees:
                peer.pending.remove(route)
            else:
                continue
            self._woken.add(peer)

    def _tell_of_only_source(self, route: RouteFrame, subscribers: set[Peer], source: Source, *, came: bool) -> None:
        """What `_tell` comes to when a route appears or goes with its only source: nearly always, so it is worth it."""
        for peer in subscribers:
            if peer is source or peer is source.heir:
                continue
            if came:
                peer.pending.add(route)
            else:
                peer.pending.remove(route)
            self._woken.add(peer)


def _sees(peer: Peer, sources: Sources) -> bool:
    """Whether somebody other than the peer, or the session that it is heir of, supplies the route."""
    return any(source is not peer and source.heir is not peer for source in sources)
