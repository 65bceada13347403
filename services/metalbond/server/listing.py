"""The table in order, page by page. Pure.

Sorting a million routes takes the interpreter for a second, so a VNI is sorted in runs, with a pause for others after
each, and a page is merged from where it begins in every run. A listing that goes on uses the runs that it began with.
"""

from __future__ import annotations

import base64
import binascii
import heapq
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Final

from google.protobuf.message import DecodeError

from services.metalbond.routes import Vni
from services.metalbond.wire import HEADER_SIZE, RouteFrame, decode_route, vni_of

RUN_ROUTES: Final = 4096
KEPT_SECONDS: Final = 30.0


def order(route: RouteFrame) -> bytes:
    """Routes of one VNI sort by destination and next hop: by their frames without the header, whose length byte would
    put next hops first."""
    return route[HEADER_SIZE:]


class SortedRoutes:
    """A VNI's routes as they were. Iterate over `sort` to the end before the first page."""

    def __init__(self, vni: Vni, routes: Mapping[RouteFrame, object], now: float) -> None:
        self.vni = vni
        self.made_at = now
        self._routes = list(routes)
        self._runs: list[list[bytes]] = []

    def sort(self) -> Iterator[None]:
        """Sorts a little with each step."""
        for start in range(0, len(self._routes), RUN_ROUTES):
            self._runs.append(sorted(map(order, self._routes[start : start + RUN_ROUTES])))
            yield
        self._routes = []

    def after(self, position: RouteFrame | None, count: int) -> list[bytes]:
        """The first `count` routes beyond the position, in order, without their headers."""
        key = b"" if position is None else order(position)
        starts = (bisect_right(run, key) for run in self._runs)
        return list(
            islice(heapq.merge(*(run[at : at + count] for run, at in zip(self._runs, starts, strict=True))), count)
        )


class Listings:
    """The last sorted VNIs, for listings that go on. `most` bounds how many."""

    def __init__(self, most: int = 4) -> None:
        self._kept: dict[Vni, SortedRoutes] = {}
        self._most = most

    def keep(self, routes: SortedRoutes) -> None:
        """The VNI was sorted again."""
        self._kept.pop(routes.vni, None)
        self._kept[routes.vni] = routes
        for vni in list(islice(self._kept, max(0, len(self._kept) - self._most))):
            del self._kept[vni]

    def find(self, vni: Vni, now: float) -> SortedRoutes | None:
        """The VNI as sorted not long ago."""
        self.forget(now)
        return self._kept.get(vni)

    def forget(self, now: float) -> None:
        """Drops those that nobody may go on with any more."""
        for vni in [vni for vni, routes in self._kept.items() if now - routes.made_at > KEPT_SECONDS]:
            del self._kept[vni]


def token(route: RouteFrame) -> str:
    """Says where the next page begins: after the route."""
    return base64.urlsafe_b64encode(route).decode()


def position(text: str) -> RouteFrame | None:
    """The route of a token; None for an empty one. Raises ValueError for what is no token."""
    if not text:
        return None
    try:
        frame = RouteFrame(base64.urlsafe_b64decode(text))
        decode_route(frame)
        vni_of(frame)
    except (binascii.Error, ValueError, IndexError, DecodeError) as error:
        raise ValueError("page_token: not one that this service gave out") from error
    return frame


def vnis_from(vnis: Iterator[Vni], only: Vni | None, after: RouteFrame | None) -> Iterator[Vni]:
    """VNIs that pages from a position on may have routes of, ascending."""
    first = 0 if after is None else vni_of(after)
    return (vni for vni in (sorted(vnis) if only is None else chain([only])) if vni >= first)
