"""Pages of a table: every route once and in order, whatever comes and goes between them."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metalbond.routes import NextHop, Route, Vni
from services.metalbond.server.listing import (
    KEPT_SECONDS,
    RUN_ROUTES,
    Listings,
    SortedRoutes,
    order,
    position,
    token,
    vnis_from,
)
from services.metalbond.wire import HEADER, RouteFrame, encode_route

VNI = Vni(100)


def route(number: int, vni: int = 100) -> RouteFrame:
    return encode_route(Route(Vni(vni), ip_network((number, 32)), NextHop(ip_address("2001:db8::1"))))


def sorted_routes(frames: list[RouteFrame], now: float = 0.0) -> SortedRoutes:
    found = SortedRoutes(VNI, dict.fromkeys(frames), now)
    assert len(list(found.sort())) == -(-len(frames) // RUN_ROUTES)
    return found


@given(st.sets(st.integers(0, 2**32 - 1), max_size=60), st.integers(1, 20))
def test_pages_hold_every_route_once_and_in_order(numbers: set[int], size: int) -> None:
    listing, listed, after = sorted_routes([route(number) for number in numbers]), list[bytes](), None
    while page := listing.after(after, size):
        listed += page
        after = RouteFrame(HEADER.pack(1, len(page[-1]), 5) + page[-1])
    assert listed == [order(route(number)) for number in sorted(numbers)]


def test_many_routes_are_sorted_a_little_at_a_time() -> None:
    frames = [route(number) for number in range(3 * RUN_ROUTES - 1, -1, -1)]
    listing = sorted_routes(frames)
    assert listing.after(None, 3) == [order(route(number)) for number in range(3)]
    assert listing.after(route(RUN_ROUTES - 1), 2) == [order(route(RUN_ROUTES)), order(route(RUN_ROUTES + 1))]
    assert listing.after(route(3 * RUN_ROUTES), 1) == []


def test_a_listing_is_kept_for_a_while_and_not_too_many() -> None:
    listings, first = Listings(most=2), sorted_routes([route(1)])
    listings.keep(first)
    assert listings.find(VNI, KEPT_SECONDS) is first
    assert listings.find(VNI, KEPT_SECONDS + 0.1) is None
    for vni in (1, 2, 3):
        listings.keep(SortedRoutes(Vni(vni), {}, now=100.0))
    assert [listings.find(Vni(vni), 100.0) is not None for vni in (1, 2, 3)] == [False, True, True]


@pytest.mark.parametrize(
    ("only", "after", "expected"),
    [
        pytest.param(None, None, [1, 5, 9], id="all"),
        pytest.param(None, route(1, vni=5), [5, 9], id="from a position on"),
        pytest.param(5, None, [5], id="one"),
        pytest.param(5, route(1, vni=9), [], id="one that is over"),
    ],
)
def test_vnis_come_in_order(only: int | None, after: RouteFrame | None, expected: list[int]) -> None:
    chosen = None if only is None else Vni(only)
    assert list(vnis_from(iter([Vni(9), Vni(1), Vni(5)]), chosen, after)) == expected


def test_a_token_says_where_to_go_on() -> None:
    assert position("") is None
    assert position(token(route(7))) == route(7)


@given(st.text(max_size=30) | st.binary(max_size=60).map(lambda data: token(RouteFrame(data))))
def test_a_made_up_token_is_refused_or_some_position(text: str) -> None:
    with suppress(ValueError):
        assert (position(text) is None) == (not text)
