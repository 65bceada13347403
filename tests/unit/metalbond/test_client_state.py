"""Clients and servers without sockets, in simulated time: whatever happens in whatever order, all agree in the end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.metalbond.client_state import PAUSE_SECONDS, ClientState, Upstream
from services.metalbond.pending import Pending
from services.metalbond.routes import NextHop, NextHopType, Route, Vni
from services.metalbond.runs import run_of
from services.metalbond.server.reflector import Peer, Reflector
from services.metalbond.wire import (
    HEADER_SIZE,
    ProtocolError,
    RouteFrame,
    Subscribe,
    Unsubscribe,
    Update,
    decode_route,
    decode_update,
    encode_route,
)

GRACE, SETTLE = 60.0, 15.0
SERVERS = ("one", "two")
CLIENTS = range(3)
VNIS = (Vni(1), Vni(2))


def route(destination: int, hop: int, vni: int = 1, kind: NextHopType = NextHopType.STANDARD) -> Route:
    network = ip_network((0x0A000000 + destination, 32))
    ports = (1024, 2047) if kind is NextHopType.NAT else None
    return Route(Vni(vni), network, NextHop(ip_address(f"2001:db8::{hop:x}"), kind, ports))


ROUTES = [
    *(route(destination, hop, vni) for vni in VNIS for destination in (1, 2) for hop in (1, 2)),
    route(1, 3, kind=NextHopType.LOADBALANCER_TARGET),
    route(2, 3, kind=NextHopType.NAT),
]


@dataclass
class Session:
    """A connection between a client and a server; both ends work when the test says so."""

    upstream: Upstream
    peer: Peer
    batched: bool
    to_server: deque[Subscribe | Unsubscribe | Update | None] = field(default_factory=deque)  # None: announced all
    to_client: deque[Update | Vni] = field(default_factory=deque)
    announced_all: bool = False

    def client_writes(self, now: float) -> None:
        self.to_server += self.upstream.requests(now)
        for frame in self.upstream.pending.take_frames(100):
            self.to_server.append(decode_update(frame[HEADER_SIZE:]))
        if self.batched and not self.announced_all:
            self.announced_all = True
            self.to_server.append(None)

    def server_works(self, reflector: Reflector, now: float) -> None:
        while self.to_server:
            match self.to_server.popleft():
                case Subscribe(vni):
                    reflector.subscribe(self.peer, vni)
                case Unsubscribe(vni):
                    reflector.unsubscribe(self.peer, vni)
                    if not self.batched:  # as the original: its announcements in the VNI are forgotten
                        for frame in list(self.peer.routes.get(vni, ())):
                            reflector.apply(self.peer, run_of(Update(True, vni, frame)), now)
                case None:
                    reflector.announced_all(self.peer, now)
                case update:
                    reflector.apply(self.peer, run_of(update), now)

    def server_writes(self) -> None:
        frames, complete = self.peer.take(100, lambda at, count: None, frames=True)
        self.to_client += [decode_update(frame[HEADER_SIZE:]) for frame in frames]
        self.to_client += complete if self.batched else []

    def client_reads(self, now: float) -> None:
        while self.to_client:
            what = self.to_client.popleft()
            if isinstance(what, Update):
                self.upstream.receive(what, now)
            else:
                self.upstream.table_end(what)


class World:
    """Servers, clients and a clock."""

    def __init__(self, *, batched: bool) -> None:
        self.now = 0.0
        self.batched = batched
        self.servers: dict[str, Reflector | None] = {name: Reflector(30.0) for name in SERVERS}
        self.clients = [ClientState(SERVERS, grace=GRACE, settle=SETTLE) for _ in CLIENTS]
        self.sessions: dict[tuple[int, str], Session] = {}
        self.listeners = [Pending() for _ in CLIENTS]
        self.heard: list[set[RouteFrame]] = [set() for _ in CLIENTS]
        self.withdrawn: list[RouteFrame] = []
        for client, listener in zip(self.clients, self.listeners, strict=True):
            client.learned.listen(listener)

    def connect(self, client: int, server: str) -> None:
        reflector = self.servers[server]
        if reflector is None or (client, server) in self.sessions:
            return
        peer = Peer(f"client {client} at {self.now}", f"10.0.0.{client}")
        reflector.join(peer)
        upstream = self.clients[client].upstreams[server]
        upstream.open()
        upstream.begin(self.now, marks=self.batched, forgets=not self.batched)
        self.sessions[client, server] = Session(upstream, peer, self.batched)

    def cut(self, client: int, server: str) -> None:
        session = self.sessions.pop((client, server), None)
        if session is None:
            return
        session.upstream.end(self.now)
        reflector = self.servers[server]
        if reflector is not None:
            reflector.leave(session.peer, self.now)

    def kill(self, server: str) -> None:
        self.servers[server] = None
        for client in CLIENTS:
            self.cut(client, server)

    def subscribe_anew(self, client: int, vni: Vni) -> None:
        self.clients[client].unsubscribe(vni)
        self.clients[client].subscribe(vni)

    def restart(self, server: str) -> None:
        if self.servers[server] is None:
            self.servers[server] = Reflector(30.0)

    def move(self, client: int, server: str, step: int) -> None:
        """One end of one session does one thing."""
        session, reflector = self.sessions.get((client, server)), self.servers[server]
        if session is None or reflector is None:
            return
        steps = (
            lambda: session.client_writes(self.now),
            lambda: session.server_works(reflector, self.now),
            session.server_writes,
            lambda: session.client_reads(self.now),
        )
        steps[step]()

    def wait(self, seconds: float) -> None:
        """Time in which everything on its way arrives."""
        self.now += seconds
        for _ in range(12):
            for client, server in list(self.sessions):
                for step in range(4):
                    self.move(client, server, step)
        for reflector in self.servers.values():
            while reflector is not None and reflector.sweep(self.now):
                pass
        for index, client in enumerate(self.clients):
            while client.learned.sweep(self.now):
                pass
            added, removed = self.listeners[index].take(10_000)
            self.heard[index] |= set(added)
            self.heard[index] -= set(removed)
            self.withdrawn += removed

    def heal(self) -> None:
        for server in SERVERS:
            self.restart(server)
            for client in CLIENTS:
                self.connect(client, server)
        for seconds in (0.1, PAUSE_SECONDS, GRACE + SETTLE, PAUSE_SECONDS, 30.0, 30.0):
            self.wait(seconds)

    def prescribed(self, client: int) -> set[Route]:
        """What others announce in VNIs that the client follows, without what its own announcements hide."""
        state = self.clients[client]
        own = {(each.vni, each.destination) for each in state.announced if each.next_hop.type == NextHopType.STANDARD}
        return {
            announced
            for other in self.clients
            if other is not state
            for announced in other.announced
            if announced.vni in state.subscribed
            and announced not in state.announced
            and not (announced.next_hop.type == NextHopType.STANDARD and (announced.vni, announced.destination) in own)
        }

    def check(self) -> None:
        for index, client in enumerate(self.clients):
            known = {each for vni in VNIS for each in client.learned.routes(vni)}
            assert known == self.prescribed(index), f"client {index}"
            assert {decode_route(frame) for frame in self.heard[index]} == known, f"listener of client {index}"


client, server = st.sampled_from(CLIENTS), st.sampled_from(SERVERS)
EVENTS = st.one_of(
    st.tuples(st.just("announce"), client, st.sampled_from(ROUTES)),
    st.tuples(st.just("withdraw"), client, st.sampled_from(ROUTES)),
    st.tuples(st.just("subscribe"), client, st.sampled_from(VNIS)),
    st.tuples(st.just("unsubscribe"), client, st.sampled_from(VNIS)),
    st.tuples(st.just("subscribe_anew"), client, st.sampled_from(VNIS)),
    st.tuples(st.just("connect"), client, server),
    st.tuples(st.just("cut"), client, server),
    st.tuples(st.just("kill"), server),
    st.tuples(st.just("restart"), server),
    st.tuples(st.just("move"), client, server, st.integers(0, 3)),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 2.0, 20.0, 70.0])),
)


@pytest.mark.parametrize("batched", [False, True], ids=["tcp", "grpc"])
@settings(max_examples=150, deadline=None)
@given(events=st.lists(EVENTS, max_size=60))
def test_every_client_ends_with_the_union_that_the_rules_prescribe(
    batched: bool, events: list[tuple[object, ...]]
) -> None:
    world = World(batched=batched)
    for name, *arguments in events:
        match name:
            case "announce" | "withdraw" | "subscribe" | "unsubscribe":
                index, what = arguments
                getattr(world.clients[index], name)(what)  # type: ignore[call-overload]
            case _:
                getattr(world, str(name))(*arguments)
    world.heal()
    world.check()


@pytest.mark.parametrize("batched", [False, True], ids=["tcp", "grpc"])
@settings(max_examples=40, deadline=None)
@given(
    restarts=st.lists(st.tuples(server, st.sampled_from([0.5, 5.0, 50.0]), st.permutations(CLIENTS)), max_size=8),
    late=st.sampled_from([0.1, 3.0, 9.0]),
)
def test_servers_that_restart_one_by_one_withdraw_nothing(
    batched: bool, restarts: list[tuple[str, float, list[int]]], late: float
) -> None:
    world = World(batched=batched)
    for index, announced in enumerate(ROUTES):
        world.clients[index % len(CLIENTS)].announce(announced)
    for state in world.clients:
        for vni in VNIS:
            state.subscribe(vni)
    world.heal()
    world.withdrawn.clear()
    for name, away, order in restarts:
        world.kill(name)
        world.wait(away)
        world.restart(name)
        for index in order:
            world.connect(index, name)
            world.wait(late)
    world.heal()
    assert not world.withdrawn
    world.check()


def test_one_server_alone_restarts_and_nothing_is_withdrawn() -> None:
    world = World(batched=True)
    world.clients[0].announce(route(1, 1))
    world.clients[1].subscribe(VNIS[0])
    for index in (0, 1):
        world.connect(index, "one")
    world.wait(0.1)
    world.kill("one")
    world.wait(GRACE - 1)
    world.restart("one")
    world.connect(1, "one")
    world.wait(9.0)
    world.connect(0, "one")
    world.heal()
    assert not world.withdrawn
    world.check()


def test_a_server_that_stays_away_is_forgotten_after_the_grace_time() -> None:
    world = World(batched=True)
    world.clients[0].announce(route(1, 1))
    world.clients[1].subscribe(VNIS[0])
    for index in (0, 1):
        world.connect(index, "one")
    world.wait(0.1)
    world.kill("one")
    world.wait(GRACE - 1)
    assert not world.withdrawn
    world.wait(1.5)
    assert world.withdrawn == [encode_route(route(1, 1))]


def test_a_mark_ends_the_transfer_and_not_a_pause() -> None:
    state = ClientState(["one"], grace=GRACE, settle=0.0)
    upstream = state.upstreams["one"]
    state.subscribe(VNIS[0])
    upstream.begin(0.0, marks=True, forgets=False)
    assert upstream.requests(0.0) == [Subscribe(VNIS[0])]
    assert not state.settled(1000.0)
    upstream.table_end(VNIS[0])
    assert state.settled(0.1)


def test_a_refused_subscription_holds_up_nothing() -> None:
    state = ClientState(["one"], grace=GRACE, settle=0.0)
    upstream = state.upstreams["one"]
    state.subscribe(VNIS[0])
    upstream.begin(0.0, marks=True, forgets=False)
    upstream.requests(0.0)
    upstream.refused(VNIS[0], False, "not for you")
    assert state.settled(0.1)
    assert upstream.refusals == {(VNIS[0], False): "not for you"}


def test_subscriptions_are_asked_for_in_groups() -> None:
    state = ClientState(["one"], grace=GRACE, settle=SETTLE)
    for vni in range(100):
        state.subscribe(vni)
    upstream = state.upstreams["one"]
    assert upstream.requests(0.0) == []
    upstream.begin(0.0, marks=False, forgets=True)
    assert [len(upstream.requests(0.0, limit=40)) for _ in range(4)] == [40, 40, 20, 0]


def test_a_vni_is_subscribed_again_after_a_pause_and_announced_again() -> None:
    state = ClientState(["one"], grace=GRACE, settle=SETTLE)
    upstream = state.upstreams["one"]
    state.announce(route(1, 1))
    state.subscribe(VNIS[0])
    upstream.begin(0.0, marks=False, forgets=True)
    assert (upstream.requests(0.0), len(upstream.pending.take_frames(100))) == ([Subscribe(VNIS[0])], 1)
    state.unsubscribe(VNIS[0])
    state.subscribe(VNIS[0])
    assert upstream.requests(1.0) == [Unsubscribe(VNIS[0])]
    assert upstream.requests(1.5) == []
    assert upstream.next_request == 1.0 + PAUSE_SECONDS
    assert upstream.requests(2.0) == [Subscribe(VNIS[0])]
    assert upstream.pending.take_frames(100) == [encode_route(route(1, 1))]


def test_a_server_that_supplies_too_much_is_left() -> None:
    state = ClientState(["one"], grace=GRACE, settle=SETTLE, max_routes=2)
    upstream = state.upstreams["one"]
    state.subscribe(VNIS[0])
    upstream.begin(0.0, marks=False, forgets=True)
    upstream.requests(0.0)
    for number in (1, 2):
        upstream.receive(Update(False, VNIS[0], encode_route(route(number, 1))), 0.0)
    with pytest.raises(ProtocolError, match="too many routes"):
        upstream.receive(Update(False, VNIS[0], encode_route(route(3, 1))), 0.0)
