"""The client's union of what its servers supply."""

from __future__ import annotations

import time
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metalbond.learned import QUIET_SECONDS, Learned, Supplier
from services.metalbond.pending import Pending
from services.metalbond.routes import NextHop, NextHopType, Route, Vni
from services.metalbond.wire import Update, encode_route

VNI = Vni(100)


def route(destination: str = "10.0.0.1/32", hop: str = "2001:db8::1", kind: int = NextHopType.STANDARD) -> Route:
    nat_ports = (1024, 2047) if kind == NextHopType.NAT else None
    return Route(VNI, ip_network(destination), NextHop(ip_address(hop), kind, nat_ports))


class Client:
    """A union with two established servers and a listener that keeps account."""

    def __init__(self) -> None:
        self.learned = Learned(grace=120.0, settle=15.0)
        self.one, self.two = self.learned.supplier("one"), self.learned.supplier("two")
        self.pending = Pending()
        self.learned.listen(self.pending)
        for server in (self.one, self.two):
            self.learned.established(server, 0.0)

    def add(self, server: Supplier, what: Route, now: float = 0.0) -> None:
        self.learned.update(server, Update(False, VNI, encode_route(what)), now)

    def remove(self, server: Supplier, what: Route) -> None:
        self.learned.update(server, Update(True, VNI, encode_route(what)), 0.0)

    def changes(self) -> tuple[int, int]:
        added, removed = self.pending.take(1000)
        return len(added), len(removed)


def test_two_servers_one_route() -> None:
    client = Client()
    client.add(client.one, route())
    client.add(client.two, route())
    assert client.changes() == (1, 0)
    client.remove(client.one, route())
    assert client.changes() == (0, 0)
    client.remove(client.two, route())
    assert client.changes() == (0, 1)


def test_losing_a_server_withdraws_nothing_that_another_supplies() -> None:
    client = Client()
    client.add(client.one, route())
    client.add(client.two, route())
    client.learned.lost(client.one, 0.0)
    while client.learned.sweep(1000.0):
        pass
    assert client.learned.routes(VNI) == [route()]
    client.remove(client.two, route())
    assert client.learned.routes(VNI) == [], "the lost server's copy doesn't outlive a withdrawal"


@pytest.mark.parametrize(
    ("returns_at", "last_update", "swept_at"),
    [
        pytest.param(None, None, 120.0, id="stays away: the grace time ends"),
        pytest.param(10.0, 10.0, 25.0, id="comes back: others get time to announce"),
        pytest.param(100.0, 120.0, 120.0 + QUIET_SECONDS, id="comes back late: the transfer may finish"),
    ],
)
def test_when_routes_of_a_lost_server_go(returns_at: float | None, last_update: float | None, swept_at: float) -> None:
    client = Client()
    client.add(client.one, route())
    client.learned.lost(client.one, 0.0)
    if returns_at is not None and last_update is not None:
        client.learned.established(client.one, returns_at)
        client.add(client.one, route("10.9.9.9/32"), last_update)
    client.learned.sweep(swept_at - 0.1)
    assert route() in client.learned.routes(VNI)
    client.learned.sweep(swept_at)
    assert route() not in client.learned.routes(VNI)


def test_what_is_learned_is_settled_when_every_server_that_is_there_had_its_say() -> None:
    client = Client()
    suppliers = (client.one, client.two)
    assert not client.learned.settled(suppliers, 14.9)
    assert client.learned.settled(suppliers, 15.0)
    client.add(client.one, route(), now=16.0)
    assert not client.learned.settled(suppliers, 16.0 + QUIET_SECONDS - 0.1)
    client.learned.lost(client.one, 16.0)
    assert client.learned.settled(suppliers, 17.0)
    client.learned.lost(client.two, 17.0)
    assert not client.learned.settled(suppliers, 1000.0)


def test_a_route_supplied_again_is_never_missed() -> None:
    client = Client()
    client.add(client.one, route())
    client.changes()
    client.learned.lost(client.one, 0.0)
    client.learned.established(client.one, 1.0)
    client.add(client.one, route(), 1.0)
    while client.learned.sweep(1000.0):
        pass
    assert client.changes() == (0, 0)
    assert client.learned.routes(VNI) == [route()]


@pytest.mark.parametrize(
    ("own", "received", "visible"),
    [
        pytest.param(route(), route(), False, id="the very same"),
        pytest.param(route(), route(hop="2001:db8::2"), False, id="another's default route beside our own"),
        pytest.param(route(), route("10.0.0.2/32"), True, id="another destination"),
        pytest.param(route(), route(kind=NextHopType.LOADBALANCER_TARGET), True, id="targets of our load balancer"),
        pytest.param(
            route(kind=NextHopType.NAT), route(hop="2001:db8::2", kind=NextHopType.NAT), True, id="a neighbour's slice"
        ),
        pytest.param(
            route(kind=NextHopType.LOADBALANCER_TARGET), route(hop="2001:db8::2"), True, id="a balancer we are behind"
        ),
    ],
)
def test_own_announcements_hide_only_what_would_loop(own: Route, received: Route, visible: bool) -> None:
    client = Client()
    client.add(client.one, received)
    client.learned.announce(own)
    assert client.learned.routes(VNI) == ([received] if visible else [])
    client.learned.withdraw(own)
    assert client.learned.routes(VNI) == [received]
    assert client.changes() == (1, 0)


def test_a_late_listener_hears_everything_first() -> None:
    client = Client()
    client.add(client.one, route())
    late = Pending()
    client.learned.listen(late)
    assert late.take(10) == ([encode_route(route())], [])
    client.learned.unlisten(late)
    client.learned.forget_vni(VNI)
    assert len(late) == 0
    assert client.learned.routes(VNI) == []


def test_destinations_that_differ_in_host_bits_are_one_route() -> None:
    client = Client()
    for payload in ("12040a00172a", "12040a001700"):
        frame = bytes.fromhex(f"01002005 1064 1a08 {payload} 1818 2212 0a10 20010db8000000000000000000000001")
        client.learned.update(client.one, Update(False, VNI, frame), 0.0)  # type: ignore[arg-type]
    assert [str(known.destination) for known in client.learned.routes(VNI)] == ["10.0.23.0/24"]


ROUTES = [
    route(destination, hop, kind)
    for destination in ("10.0.0.1/32", "10.0.0.2/32")
    for hop in ("2001:db8::1", "2001:db8::2")
    for kind in (NextHopType.STANDARD, NextHopType.LOADBALANCER_TARGET)
]


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "announce", "withdraw"]), st.sampled_from(ROUTES))))
def test_what_is_visible_follows_from_what_is_supplied_and_announced(steps: list[tuple[str, Route]]) -> None:
    client = Client()
    supplied: set[Route] = set()
    own: set[Route] = set()
    heard: set[bytes] = set()
    for step, what in steps:
        match step:
            case "add":
                client.add(client.one, what)
                supplied.add(what)
            case "remove":
                client.remove(client.one, what)
                supplied.discard(what)
            case "announce":
                client.learned.announce(what)
                own.add(what)
            case _:
                client.learned.withdraw(what)
                own.discard(what)
        routers = {each.destination for each in own if each.next_hop.type == NextHopType.STANDARD}
        visible = {
            each
            for each in supplied - own
            if each.destination not in routers or each.next_hop.type != NextHopType.STANDARD
        }
        assert set(client.learned.routes(VNI)) == visible
        added, removed = client.pending.take(1000)
        heard = (heard | set(added)) - set(removed)
        assert heard == {encode_route(each) for each in visible}


def test_announcing_costs_the_same_however_much_is_learned() -> None:
    def seconds(learned: int) -> float:
        client = Client()
        for number in range(learned):
            client.add(client.one, route(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32"))
        took = []
        for number in range(50):
            began = time.perf_counter()
            client.learned.announce(route(f"11.0.0.{number}/32"))
            took.append(time.perf_counter() - began)
        return min(took)

    assert seconds(2000) < 20 * seconds(10)
