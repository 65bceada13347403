"""What is connected to the reflector, whichever door it came through, and what happens by itself with time."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

from services.common.logs import get_logger
from services.metalbond.connection import Traffic
from services.metalbond.routes import Vni
from services.metalbond.runs import Run
from services.metalbond.server.policy import OPEN, Policy, Rule
from services.metalbond.server.reflector import Peer, Reflector
from services.metalbond.session import State

log = get_logger(__name__)

SWEEP_SECONDS: Final = 0.25
CHECK_SECONDS: Final = 0.5  # between two looks at timers of sessions
FLUSH_SECONDS: Final = 0.004  # least time between two rounds in which peers are told what is new
FLUSH_SHARE: Final = 1.0  # a round pauses so many times as long as it took, so that reading isn't starved
MOST_FLUSH_SECONDS: Final = 0.01
STALL_SECONDS: Final = 60.0  # a peer that reads nothing for so long is given up
PEER_CLOSED: Final = "closed by peer"
TOO_MANY, TOO_MANY_OF_ADDRESS = REFUSALS = ("too many sessions", "too many sessions of one address")
MOST_REFUSALS: Final = 1000  # that a session is told of; all are counted
LOGGED_REFUSALS: Final = 10  # of a session
LATENCY_BOUNDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass
class Latencies:
    """Counts of seconds; `counts` has one more than LATENCY_BOUNDS, for what lies beyond them."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float, count: int) -> None:
        """It took so long for so many."""
        self.counts[bisect_left(LATENCY_BOUNDS, seconds)] += count
        self.total += seconds * count


@dataclass
class Counters:
    """Since the process began; `traffic` is that of sessions that have ended."""

    sessions_accepted: Counter[str] = field(default_factory=Counter)  # by door
    sessions_refused: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(REFUSALS, 0)))  # by reason
    sessions_ended: Counter[str] = field(default_factory=Counter)  # by cause
    not_allowed: Counter[str] = field(default_factory=Counter)  # by what was asked
    traffic: Traffic = field(default_factory=Traffic)


class Link(Protocol):
    """A session as the hub sees it."""

    peer: Peer
    origin: str  # IP address; empty for whoever may open the server's socket file
    rule: Rule
    connected_at: float
    traffic: Traffic

    @property
    def door(self) -> str:
        """How it came in: tcp, grpc."""

    @property
    def state(self) -> State:
        """Where the session stands."""

    @property
    def keepalive(self) -> int:
        """Interval in seconds; zero where the protocol has none of its own."""

    def flush(self) -> None:
        """The peer has something to be told."""

    def check(self, now: float) -> None:
        """Ends the session if its time is over."""

    def end(self, cause: str, detail: str) -> None:
        """Ends the session: we no longer want it. `cause` is a short constant."""

    def refuse(self, vni: Vni, *, announcing: bool, reason: str) -> None:
        """Tells the peer, if its protocol can, what it may not do."""


class Hub:
    """`max_sessions` bounds memory: connections beyond it are closed at once. `max_of_address` is how many of them may
    come from one IP address, so that one host can't keep all others out. `node` is our name."""

    def __init__(
        self,
        reflector: Reflector,
        *,
        max_sessions: int = 8192,
        max_of_address: int = 4096,
        policy: Policy = OPEN,
        node: str = "reflector",
    ) -> None:
        self.reflector = reflector
        self.node = node
        self.policy = policy
        self.counters = Counters()
        self.latencies = Latencies()
        self.links: dict[Peer, Link] = {}
        self._max_sessions, self._max_of_address = max_sessions, max_of_address
        self._sessions_of: Counter[str] = Counter()  # by origin
        self._loop = asyncio.get_running_loop()
        self._flush: asyncio.TimerHandle | None = None
        self._next_flush = self._next_check = 0.0
        self._refused: dict[Peer, set[tuple[Vni, bool]]] = {}

    def refuses(self, origin: str, returning: str = "") -> str:
        """Why one more session from an IP address is too many, empty if it isn't; counts it.

        `returning` is what the peer is recognised by: a session that it had before makes room for this one.
        """
        if len(self.links) >= self._max_sessions:
            reason = TOO_MANY
        elif origin and self._sessions_of[origin] >= self._max_of_address:
            reason = TOO_MANY_OF_ADDRESS
        else:
            return ""
        if returning and any(link.peer.address == returning for link in self.links.values()):
            return ""
        self.counters.sessions_refused[reason] += 1
        return reason

    def began(self, link: Link) -> None:
        """A peer connected, perhaps again before its last session was found to be dead."""
        if link.door == "grpc":
            for other in [each for each in self.links.values() if each.peer.address == link.peer.address]:
                other.end("replaced", f"{link.peer.name} has the same name")
                self.reflector.leave(other.peer, self._loop.time())  # so that this one is its heir
        self.links[link.peer] = link
        self._sessions_of[link.origin] += 1
        self.counters.sessions_accepted[link.door] += 1
        log.info("peer connected", peer=link.peer.name, door=link.door)

    def ended(self, link: Link, cause: str) -> None:
        """Its session is over; to be called once."""
        del self.links[link.peer]
        self._sessions_of[link.origin] -= 1
        if not self._sessions_of[link.origin]:
            del self._sessions_of[link.origin]
        self.counters.sessions_ended[cause] += 1
        self.counters.traffic.include(link.traffic)
        self._refused.pop(link.peer, None)
        if link.peer in self.reflector.peers:
            self.reflector.leave(link.peer, self._loop.time())
        self.changed()
        log.info("session ended", peer=link.peer.name, cause=cause, stale_routes=link.peer.route_count)

    def apply(self, link: Link, run: Run, now: float) -> None:
        """The peer announces or withdraws routes. Raises ProtocolError when they are more than it may announce."""
        if link.rule.may_announce(run.vni):
            self.reflector.apply(link.peer, run, now)
        else:
            self._refuse(link, run.vni, announcing=True)

    def subscribe(self, link: Link, vni: Vni) -> None:
        """The peer wants a VNI's routes. Raises ProtocolError when it has too many subscriptions."""
        if link.rule.may_subscribe(vni):
            self.reflector.subscribe(link.peer, vni)
        else:
            self._refuse(link, vni, announcing=False)

    def changed(self) -> None:
        """Peers may have something to be told: they are, in a moment, all in one round."""
        if self._flush is None and self.reflector.has_woken:
            self._flush = self._loop.call_at(self._next_flush, self._flush_now)

    def observe(self, at: float, count: int) -> None:
        """A peer is told now of what changed at a time."""
        self.latencies.add(self._loop.time() - at, count)

    async def run(self) -> None:
        """Does what is due, for ever."""
        while True:
            busy = self._tend(self._loop.time())
            self.changed()
            await asyncio.sleep(0 if busy else SWEEP_SECONDS)

    def close(self) -> None:
        """Ends all sessions."""
        if self._flush is not None:
            self._flush.cancel()
        for link in list(self.links.values()):
            link.end("server stopped", "")

    def _flush_now(self) -> None:
        self._flush = None
        began = time.monotonic()
        for peer in self.reflector.take_woken():
            if link := self.links.get(peer):
                link.flush()
        took = time.monotonic() - began
        self._next_flush = self._loop.time() + min(max(FLUSH_SECONDS, took * FLUSH_SHARE), MOST_FLUSH_SECONDS)

    def _tend(self, now: float) -> bool:
        if now >= self._next_check:
            self._next_check = now + CHECK_SECONDS
            for link in list(self.links.values()):
                link.check(now)
        for peer in self.reflector.overdue():
            self.links[peer].end("too far behind", "more changes wait for it than may")
        # Both, whatever the first one says.
        return bool(self.reflector.sweep(now) + self.reflector.fold())

    def _refuse(self, link: Link, vni: Vni, *, announcing: bool) -> None:
        what = "announce" if announcing else "subscribe"
        self.counters.not_allowed[what] += 1
        told = self._refused.setdefault(link.peer, set())
        if (vni, announcing) in told or len(told) >= MOST_REFUSALS:
            return
        told.add((vni, announcing))
        if len(told) <= LOGGED_REFUSALS:
            log.warning("not allowed", peer=link.peer.name, what=what, vni=vni)
        link.refuse(vni, announcing=announcing, reason=f"the policy lets this identity not {what} VNI {vni}")
