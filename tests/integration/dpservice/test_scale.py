"""Tables at their limits, by real packets through a real daemon; bench.scale does it with a million of each."""

from __future__ import annotations

from tests.integration.dpservice.crowd import crowds
from tests.integration.dpservice.lab import Lab
from tests.integration.dpservice.limits import fill_flows, fill_routes, meet


def test_a_thousand_guests(lab: Lab) -> None:
    """As many as one instance takes."""
    with crowds(lab, 1024) as crowd:
        meet(crowd)


def test_a_full_flow_table(lab: Lab) -> None:
    """New flows are refused and counted, known ones go on, and what ends makes room."""
    with crowds(lab, 3, "--flows=4096", "--flow-quota=0") as crowd:
        fill_flows(crowd, 4096)


def test_a_full_route_table(lab: Lab) -> None:
    with crowds(lab, 2, "--routes=2000") as crowd:
        fill_routes(crowd, 2000, 1000)
