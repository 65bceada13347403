"""Who hears of which route: a table of cases, then any interleaving against a naive account of the rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.metalbond.routes import NextHop, Route, Vni
from services.metalbond.runs import Run, Splitter, run_of
from services.metalbond.server.reflector import Limits, Peer, Reflector
from services.metalbond.wire import ProtocolError, RouteFrame, Update, encode_route

GRACE = 30.0
VNI = Vni(100)


def route(number: int = 0, vni: int = 100) -> RouteFrame:
    hop = NextHop(ip_address(f"2001:db8::{number + 1:x}"))
    return encode_route(Route(Vni(vni), ip_network(f"10.0.0.{number}/32"), hop))


@dataclass
class Member:
    """A peer and what it was told so far."""

    reflector: Reflector
    address: str
    is_reflector: bool = False
    peer: Peer = field(init=False)
    told: set[RouteFrame] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.peer = Peer(f"[{self.address}]:1", self.address, reflector=self.is_reflector)
        self.reflector.join(self.peer)

    def add(self, frame: RouteFrame) -> None:
        self.reflector.apply(self.peer, run_of(Update(False, VNI, frame)), 0.0)

    def remove(self, frame: RouteFrame) -> None:
        self.reflector.apply(self.peer, run_of(Update(True, VNI, frame)), 0.0)

    def hear(self, size: int = 1_000_000, *, frames: bool = False) -> set[RouteFrame]:
        while self.peer.ready:
            taken, _ = self.peer.take(size, lambda at, count: None, frames=frames)
            for run in Splitter().feed(b"".join(taken)):
                assert isinstance(run, Run)
                for route in run.routes:
                    assert (route in self.told) == run.removed, "told twice, or taken back without having been told"
                    (self.told.discard if run.removed else self.told.add)(route)
            if size < 1_000_000:
                break
        return self.told


def members(count: int, reflector: Reflector | None = None) -> list[Member]:
    reflector = reflector or Reflector(GRACE)
    return [Member(reflector, f"2001:db8::{number}") for number in range(count)]


def test_a_subscriber_hears_what_is_there_and_what_comes() -> None:
    one, other = members(2)
    one.add(route(1))
    other.reflector.subscribe(other.peer, VNI)
    assert other.hear() == {route(1)}
    one.add(route(2))
    one.remove(route(1))
    assert other.hear() == {route(2)}
    assert other.reflector.take_woken() == {other.peer}


def test_nobody_hears_its_own_routes() -> None:
    one, other = members(2)
    one.add(route(1))
    one.reflector.subscribe(one.peer, VNI)
    one.add(route(2))
    assert one.hear() == set()
    other.add(route(1))
    assert one.hear() == {route(1)}
    other.remove(route(1))
    assert one.hear() == set()


def test_repetition_is_harmless() -> None:
    one, other = members(2)
    for _ in range(2):
        other.reflector.subscribe(other.peer, VNI)
        one.add(route(1))
    assert other.hear() == {route(1)}
    one.remove(route(2))
    one.remove(route(1))
    one.remove(route(1))
    one.reflector.unsubscribe(one.peer, VNI)
    assert other.hear() == set()


def test_a_route_goes_with_its_last_source() -> None:
    one, two, other = members(3)
    other.reflector.subscribe(other.peer, VNI)
    one.add(route(1))
    two.add(route(1))
    assert other.hear() == {route(1)}
    one.remove(route(1))
    assert other.hear() == {route(1)}
    two.remove(route(1))
    assert other.hear() == set()


def test_unsubscribing_keeps_own_announcements() -> None:
    one, other = members(2)
    one.reflector.subscribe(one.peer, VNI)
    other.reflector.subscribe(other.peer, VNI)
    one.add(route(1))
    one.reflector.unsubscribe(one.peer, VNI)
    assert other.hear() == {route(1)}
    other.add(route(2))
    assert one.hear() == set()


def test_a_route_that_comes_and_goes_unheard_leaves_nothing() -> None:
    one, other = members(2)
    other.reflector.subscribe(other.peer, VNI)
    other.hear()
    for _ in range(1000):
        one.add(route(1))
        one.remove(route(1))
    assert other.peer.depth == 2000
    while one.reflector.fold():
        pass
    other.peer.followers[VNI].fold(10_000)
    assert other.peer.depth == 0


def test_a_lost_peers_routes_stay_for_the_grace_time() -> None:
    one, other = members(2)
    other.reflector.subscribe(other.peer, VNI)
    one.add(route(1))
    one.reflector.leave(one.peer, now=100.0)
    assert not one.reflector.sweep(129.9)
    assert other.hear() == {route(1)}
    assert one.reflector.stale == (one.peer,)
    assert not one.reflector.sweep(130.0)
    assert other.hear() == set()
    assert one.reflector.stale == ()
    assert len(one.reflector.table) == 0


def test_a_returned_peer_takes_its_routes_over() -> None:
    one, other = members(2)
    other.reflector.subscribe(other.peer, VNI)
    for number in (1, 2, 3):
        one.add(route(number))
    one.reflector.leave(one.peer, now=0.0)
    returned = Member(one.reflector, one.address)
    returned.reflector.subscribe(returned.peer, VNI)
    assert returned.hear() == set(), "an heir isn't told its own stale routes"
    returned.add(route(1))
    returned.remove(route(2))
    assert other.hear() == {route(1), route(3)}
    one.reflector.sweep(GRACE)
    assert other.hear() == {route(1)}
    assert returned.hear() == set()


def test_a_stale_route_is_relieved_by_any_live_source() -> None:
    one, two, other = members(3)
    other.reflector.subscribe(other.peer, VNI)
    one.add(route(1))
    one.reflector.leave(one.peer, now=0.0)
    two.add(route(1))
    two.remove(route(1))
    assert other.hear() == set()
    assert one.reflector.sweep(GRACE) is False


def test_a_million_routes_are_swept_in_slices() -> None:
    (one,) = members(1)
    frames = [encode_route(Route(VNI, ip_network((n, 32)), NextHop(ip_address("::1")))) for n in range(5000)]
    for frame in frames:
        one.add(frame)
    one.reflector.leave(one.peer, now=0.0)
    assert [one.reflector.sweep(GRACE) for _ in range(3)] == [True, True, False]
    assert len(one.reflector.table) == 0


def test_limits_name_themselves() -> None:
    (one,) = members(1, Reflector(GRACE, Limits(routes_per_peer=1, subscriptions_per_peer=1)))
    one.add(route(1))
    with pytest.raises(ProtocolError, match="too many routes: more than 1"):
        one.add(route(2))
    one.reflector.subscribe(one.peer, VNI)
    with pytest.raises(ProtocolError, match="too many subscriptions: more than 1"):
        one.reflector.subscribe(one.peer, Vni(101))


def test_reconnecting_with_new_routes_all_the_time_holds_no_more_than_one_session_may() -> None:
    reflector = Reflector(GRACE, Limits(routes_per_peer=2))
    for number in range(10):
        member = Member(reflector, "2001:db8::bad")
        member.add(route(number))
        reflector.leave(member.peer, now=0.0)
    while reflector.sweep(0.0):
        pass
    assert len(reflector.table) == 2


class Account:
    """The rules once more, naively: live sources per route, or one lost source, and who was there when it was lost."""

    def __init__(self) -> None:
        self.live: dict[RouteFrame, set[Peer]] = {}
        self.stale: dict[RouteFrame, Peer] = {}

    def add(self, peer: Peer, frame: RouteFrame) -> None:
        self.live.setdefault(frame, set()).add(peer)
        self.stale.pop(frame, None)

    def remove(self, peer: Peer, frame: RouteFrame) -> None:
        self.live.get(frame, set()).discard(peer)
        if frame in self.stale and self.stale[frame].heir is peer:
            del self.stale[frame]

    def leave(self, peer: Peer) -> None:
        for frame, peers in self.live.items():
            if peer in peers:
                peers.discard(peer)
                if not peers:
                    self.stale[frame] = peer

    def visible(self, peer: Peer, subscribed: set[int], frames: dict[RouteFrame, int]) -> set[RouteFrame]:
        def concerns(source: Peer) -> bool:
            return source is not peer and not (peer.reflector and source.reflector)

        seen = {frame for frame, peers in self.live.items() if any(map(concerns, peers))}
        seen |= {frame for frame, lost in self.stale.items() if lost.heir is not peer and concerns(lost)}
        return {frame for frame in seen if frames[frame] in subscribed}


FRAMES = {route(number, vni): vni for vni in (100, 101) for number in range(3)}
STEPS = (
    *("add", "add", "add_all", "remove", "remove_all", "subscribe", "unsubscribe", "refresh"),
    *("leave", "hear", "fold", "expire", "announced_all"),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(STEPS),
        st.integers(0, 3),
        st.sampled_from(sorted(FRAMES)),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(steps)
def test_any_interleaving_ends_with_what_the_rules_say(script: list[tuple[str, int, RouteFrame]]) -> None:
    reflector, account, now = Reflector(GRACE), Account(), 0.0
    there = [Member(reflector, f"2001:db8::{number}", is_reflector=number > 1) for number in range(4)]
    for step, who, frame in script:
        member, vni = there[who], Vni(FRAMES[frame])
        now += 1.0
        match step:
            case "add":
                reflector.apply(member.peer, run_of(Update(False, vni, frame)), now)
                account.add(member.peer, frame)
            case "remove":
                reflector.apply(member.peer, run_of(Update(True, vni, frame)), now)
                account.remove(member.peer, frame)
            case "add_all" | "remove_all":
                frames = [each for each in FRAMES if FRAMES[each] == vni]
                reflector.apply(member.peer, Run(step == "remove_all", vni, 0, frames), now)
                for each in frames:
                    (account.remove if step == "remove_all" else account.add)(member.peer, each)
            case "subscribe":
                reflector.subscribe(member.peer, vni)
            case "refresh":
                if vni in member.peer.followers:
                    member.told = {told for told in member.told if FRAMES[told] != vni}
                reflector.refresh(member.peer, vni)
            case "fold":
                for follower in member.peer.followers.values():
                    follower.fold(2)
            case "announced_all":
                reflector.announced_all(member.peer, now)
                while reflector.sweep(now):
                    pass
                account.stale = {each: lost for each, lost in account.stale.items() if lost.heir is not member.peer}
            case "unsubscribe":
                reflector.unsubscribe(member.peer, vni)
                member.told = {told for told in member.told if FRAMES[told] != vni}
            case "leave":
                account.leave(member.peer)
                reflector.leave(member.peer, now)
                there[who] = Member(reflector, member.address, member.is_reflector)
            case "hear":
                member.hear(1, frames=who % 2 == 0)
            case "expire":
                now += GRACE
                while reflector.sweep(now):
                    pass
                account.stale.clear()
    for member in there:
        expected = account.visible(member.peer, set(member.peer.followers), FRAMES)
        assert member.hear() == expected
    for member in there:
        reflector.leave(member.peer, now)
    while reflector.sweep(now + GRACE):
        pass
    assert len(reflector.table) == 0
    assert list(reflector.table.vnis) == []
