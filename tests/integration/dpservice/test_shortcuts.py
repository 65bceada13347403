"""Shortcuts past the flow table: near each other while there is room, and none outlives its flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from typing import Final

import pytest

from services.dpservice.engine.runs import run_at_tc
from services.dpservice.model.changes import numbered
from services.dpservice.model.underlay import UnderlayAddress
from tests.integration.dpservice.lone_guest import MAC, OWN, STRANGER, VNI, A
from tests.support.dpservice import calls
from tests.support.dpservice.packets import udp
from tests.support.dpservice.town import framed
from tests.support.dpservice.trial import REDIRECT, Run, Trial
from tests.support.dpservice.wire import Endpoints

FLOWS: Final = 6000
PLACES: Final = 1 << 11 + 1  # of a neighbourhood, as in layout_flows.h
SHORTCUT, PLACE = 64, slice(20, 24)  # struct shortcut
OUTER_DESTINATION: Final = slice(14 + 24, 14 + 40)

Flow = Callable[[int], Endpoints]
DIFFERENT: Final[Mapping[str, Flow]] = {
    "source ports": lambda number: Endpoints(OWN, 1024 + number, STRANGER, 53),
    "destination ports": lambda number: Endpoints(OWN, 53, STRANGER, 1024 + number),
    "destinations": lambda number: Endpoints(OWN, 53, STRANGER + number, 53),
}


def way_of_all(trial: Trial, flow: Flow) -> set[UnderlayAddress]:
    """Where the packets of all flows go."""
    program, device = trial.engine._object.program("from_guest"), trial.guests[0].ifindex
    found = set()
    for number in range(FLOWS):
        verdict, after = run_at_tc(program, device, framed(udp(flow(number)), MAC))
        assert verdict == REDIRECT
        found.add(UnderlayAddress(IPv6Address(after[OUTER_DESTINATION])))
    return found


def neighbourhoods(trial: Trial) -> Counter[int]:
    """How many shortcuts each neighbourhood has."""
    found = Counter[int]()
    for key, raw in trial.engine._object.map("shortcuts").items():
        for start in range(0, len(raw), SHORTCUT):
            if any(raw[start : start + SHORTCUT][PLACE]):
                found[int.from_bytes(key, "little") * len(raw) // SHORTCUT // PLACES] += 1
    return found


@pytest.mark.parametrize("flow", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_a_guest_with_more_flows_than_a_neighbourhood_has_places(in_trial: Run, flow: Flow) -> None:
    def look(trial: Trial) -> None:
        for _ in ("made", "found", "by shortcut"):
            assert way_of_all(trial, flow) == {calls.HOPS[1]}
        found = neighbourhoods(trial)
        assert found.total() > FLOWS * 0.99, "the others are somewhere else"
        assert found.most_common(1)[0][1] > PLACES * 0.8, "most are near each other"

        trial.call(lambda model: model.delete_route(VNI, numbered(calls.ROUTES[0])))
        trial.call(calls.create_route(VNI, calls.ROUTES[0], calls.HOPS[0]))
        for _ in ("decided again", "by shortcut"):
            assert way_of_all(trial, flow) == {calls.HOPS[0]}

        trial.call(lambda model: model.delete_interface(A))
        trial.engine.age()
        assert not list(trial.engine.flows())
        assert not neighbourhoods(trial)

    in_trial(look)
