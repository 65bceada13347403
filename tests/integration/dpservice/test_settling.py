"""What a data plane that takes over makes of received flows: NAT ports and usage, as whoever opened them had them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from services.dpservice.engine.codec import u32
from tests.integration.dpservice.path_town import A4, NET4, A, Test, Town, ends, sent_on
from tests.integration.dpservice.takeover import open_flows, tables
from tests.support.dpservice.packets import udp
from tests.support.dpservice.town import GATEWAY

FLOWS = 20_000


def test_flows_get_back_what_they_hold(in_town: Callable[[Test], None]) -> None:
    """Whatever is missing, and whatever an earlier time left."""

    def settle(town: Town) -> None:
        open_flows(town)
        before, maps = tables(town), town.trial.engine._object.map
        assert len(before["nat_claims"]) > len(before["nat_mappings"]) > 5
        for name in ("nat_mappings", "nat_claims"):
            (gone, *others), value = before[name], next(iter(before[name].values()))
            maps(name).remove(gone)
            maps(name).put(bytes(reversed(gone)), value)
            maps(name).put(others[0], bytes([7]) * len(value))
        maps("usage").put(u32(17), bytes([7]) * 8)
        assert town.trial.engine.transfer.settle() == sum(flow.is_primary for flow in town.trial.engine.flows())
        assert tables(town) == before
        first = sent_on(town.guest(A, udp(ends(A4, 7, NET4, 53))), town.u["a"], GATEWAY, 4)
        other = sent_on(town.guest(A, udp(ends(A4, 7, NET4 + 2, 53))), town.u["a"], GATEWAY, 4)
        assert other.ends == replace(first.ends, destination=NET4 + 2)

    in_town(settle)


def test_settling_takes_microseconds_a_flow(in_town: Callable[[Test], None]) -> None:
    """Between the death of the one and the first new flow of the other."""

    def settle(town: Town) -> None:
        open_flows(town)
        flows, layouts = town.trial.engine._object.map("flows"), town.trial.engine._codec.layouts
        layout = layouts["flow_key"]
        (nat,) = (
            (key, value)
            for key, value in flows.items()
            if layout.number(key, "source_port") == 8 and layout.number(key, "destination_port") == 80
        )
        for number in range(FLOWS):
            key = layout.changed(nat[0], source_port=1024 + number)
            flows.put(key, layouts["flow"].changed(nat[1], new_port=1024 + number))
        started = time.monotonic()
        assert town.trial.engine.transfer.settle() > FLOWS
        assert time.monotonic() - started < 1
        assert town.trial.engine.usage()[A].nat_ports > FLOWS

    in_town(settle)
