"""What a data plane that takes over makes of received flows: NAT ports and usage, as whoever opened them had them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from services.dpservice.engine.codec import u32
from services.dpservice.model.rows import InterfaceId
from tests.integration.dpservice.path_town import (
    A4,
    B4,
    B6,
    BALANCED,
    EXTRA,
    FAR64,
    NET4,
    SHARED,
    A,
    B,
    Test,
    Town,
    build,
    ends,
    sent_on,
)
from tests.support.dpservice.fates import Delivered, Tunnelled
from tests.support.dpservice.packets import echo, tcp, udp
from tests.support.dpservice.town import GATEWAY
from tests.support.dpservice.trial import trials

FLOWS = 20_000


@pytest.fixture(scope="module")
def in_town() -> Iterator[Callable[[Test], None]]:
    with trials() as run:
        yield lambda test: run(lambda trial: test(build(trial)))


def tables(town: Town) -> dict[str, dict[bytes, bytes]]:
    names, engine = ("nat_mappings", "nat_claims", "usage"), town.trial.engine
    found = {name: dict(engine._object.map(name).items()) for name in names}
    layout = engine._codec.layouts["nat_mapping"]
    for key, raw in found["nat_mappings"].items():
        found["nat_mappings"][key] = layout.changed(raw, born=0)
    return found


def open_flows(town: Town) -> None:
    """Of each kind: NAT of each protocol, one NAT port for many, NAT64, between guests, relayed, balanced."""
    town.call("delete_vip", InterfaceId("a"))
    town.call("create_nat", InterfaceId("a"), EXTRA, 5000, 6000, None)
    for port, packet in (
        (A, udp(ends(A4, 7, NET4, 53))),
        (A, udp(ends(A4, 7, NET4 + 1, 53))),
        (A, tcp(ends(A4, 7, NET4, 80))),
        (A, tcp(ends(A4, 8, NET4, 80))),
        (A, echo(ends(A4, 9, NET4, 9))),
        (A, udp(ends(A4, 7, B4, 9))),
        (B, udp(ends(B4, 7, NET4, 53))),
        (B, udp(ends(B6, 7, FAR64, 53))),
        (B, echo(ends(B6, 8, FAR64, 8))),
    ):
        assert isinstance(town.guest(port, packet), Tunnelled | Delivered)
    town.call("create_target", "lb", town.u["prefix"])
    for to, packet in (("NAT", udp(ends(NET4, 53, SHARED, 2000))), ("LB", udp(ends(NET4, 7, BALANCED, 53)))):
        assert isinstance(town.fabric(to, packet), Tunnelled | Delivered)


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
