"""What one data plane takes over from the tables of another: everything at first, then what was missing."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any

import pytest

from services.dpservice.engine.ebpf import EbpfEngine
from services.dpservice.engine.flows import FlowEntry, Sweep
from services.dpservice.engine.interface import SharedTables
from services.dpservice.model.changes import Change
from services.dpservice.model.keys import PortKey
from services.dpservice.model.packet_rows import Port
from services.dpservice.model.rows import Vni
from services.dpservice.model.underlay import UnderlayAddress
from tests.integration.dpservice.path_town import (
    A4,
    B4,
    B6,
    FAR64,
    NET4,
    SHARED,
    A,
    B,
    C,
    Test,
    Town,
    ends,
)
from tests.integration.dpservice.takeover import another, at, open_flows, tables, take_over
from tests.support.dpservice.fates import Delivered, Tunnelled
from tests.support.dpservice.packets import tcp, udp

SYN, ACK = 0x02, 0x10
ELSEWHERE = UnderlayAddress(IPv6Address("fc00:1::77"))


def listed(town: Town) -> set[FlowEntry]:
    return {replace(entry, seconds_left=0) for entry in town.trial.engine.flows()}


def open_more(town: Town) -> None:
    """With a NAT port that is there, with a new one, in both families, between guests."""
    for port, packet in (
        (A, udp(ends(A4, 7, NET4 + 5, 53))),
        (A, udp(ends(A4, 77, NET4, 53))),
        (B, udp(ends(B6, 77, FAR64, 53))),
        (A, udp(ends(A4, 78, B4, 9))),
    ):
        assert isinstance(town.guest(port, packet), Tunnelled | Delivered)


def test_everything_and_then_what_is_missing(in_town: Callable[[Test], None]) -> None:
    def adopt(town: Town) -> None:
        first = town.trial.engine
        open_flows(town)
        with another(town) as other:
            second = other.trial.engine
            assert take_over(second, first) > 5
            with at(town, first):
                before, flows = tables(town), listed(town)
                open_more(town)
            assert (tables(other), listed(other)) == (before, flows)
            assert second.transfer.catch_up() == 4
            with at(town, first):
                before, flows = tables(town), listed(town)
            assert (tables(other), listed(other)) == (before, flows)
            for port in (A, B, C):
                second._flows.sweep(Sweep.PORT, port=port)
            assert {entry.owner for entry in second.flows()} <= {0}
            assert second.usage() == {}, "what flows hold is given back with them"

    in_town(adopt)


def test_what_ended_meanwhile_is_gone(in_town: Callable[[Test], None]) -> None:
    """What was received by messages counts only if the tables still have it."""

    def adopt(town: Town) -> None:
        first = town.trial.engine
        with another(town) as other:
            second = other.trial.engine
            with at(town, first):
                open_flows(town)
                told = first.transfer.source().changes()
                first.age()
                first._flows.sweep(Sweep.PORT, port=B)
            second.transfer.receive(told)
            assert len(listed(other)) > len(set(first.flows()))
            take_over(second, first)
            with at(town, first):
                flows = listed(town)
            assert listed(other) == flows
            second.transfer.catch_up()

    in_town(adopt)


def test_a_flow_that_is_here_keeps_its_own_way(in_town: Callable[[Test], None]) -> None:
    """The first packet after our programs came was another one: its NAT port is not given to anybody else's flow."""

    def adopt(town: Town) -> None:
        first = town.trial.engine
        town.call("delete_nat", "b")
        town.call("create_nat", "b", SHARED, 1000, 1001, None)
        with another(town) as other:
            second = other.trial.engine
            take_over(second, first)
            with at(town, first):
                assert isinstance(town.guest(B, udp(ends(B4, 7, NET4, 53))), Tunnelled)
            assert isinstance(other.guest(B, udp(ends(B4, 8, NET4, 53))), Tunnelled)
            flows, held = listed(other), tables(other)
            assert second.transfer.catch_up() == 0
            assert (listed(other), tables(other)) == (flows, held)

    in_town(adopt)


def test_the_state_of_a_connection_goes_on(in_town: Callable[[Test], None]) -> None:
    """Of its handshake a part was seen before the first look, the next one before the second, the last one here."""

    def states(town: Town, engine: EbpfEngine) -> set[int]:
        return {entry.tcp for entry in engine.flows() if entry.source_port == 4000 or entry.destination_port == 4000}

    def adopt(town: Town) -> None:
        first = town.trial.engine
        way, back = ends(A4, 4000, B4, 80), ends(B4, 80, A4, 4000)
        assert isinstance(town.guest(A, tcp(way, flags=SYN)), Delivered)
        with another(town) as other:
            second = other.trial.engine
            take_over(second, first)
            assert states(other, second) == {1}
            with at(town, first):
                assert isinstance(town.guest(B, tcp(back, flags=SYN | ACK)), Delivered)
            second.transfer.catch_up()
            assert states(other, second) == {2}
            assert isinstance(other.guest(A, tcp(way, flags=ACK)), Delivered)
            assert states(other, second) == {3}

    in_town(adopt)


@pytest.mark.parametrize("is_direct", [pytest.param(True, id="tables"), pytest.param(False, id="messages")])
@pytest.mark.parametrize(
    ("other", "is_known"),
    [
        pytest.param({}, True, id="the same underlay address"),
        pytest.param({"device": "net_tap9"}, True, id="the same underlay address at another device"),
        pytest.param({"underlay": ELSEWHERE}, True, id="the same device and VNI"),
        pytest.param({"underlay": ELSEWHERE, "device": "net_tap9"}, False, id="another device"),
        pytest.param({"underlay": ELSEWHERE, "vni": Vni(9)}, False, id="another VNI"),
    ],
)
def test_who_is_the_same_guest(
    in_town: Callable[[Test], None], other: dict[str, Any], *, is_known: bool, is_direct: bool
) -> None:
    def adopt(town: Town) -> None:
        first = town.trial.engine
        assert isinstance(town.guest(A, udp(ends(A4, 7, NET4, 53))), Tunnelled)
        with another(town) as here:
            second = here.trial.engine
            port = second.read_back()[PortKey(A)]
            assert isinstance(port, Port)
            second.apply([Change(PortKey(A), port, replace(port, **other))])
            if is_direct:
                second.transfer.follow(first.transfer.shared())
            else:
                second.transfer.receive(first.transfer.source().changes())
            second.transfer.settle()
            assert bool({entry.owner for entry in second.flows()} & {A + 1}) == is_known
            assert second.knows_guest(A) == is_known
            second.transfer.catch_up()

    in_town(adopt)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"kernel": "another"}, errno.EREMOTE, id="another kernel"),
        pytest.param({"numbers": {}}, errno.EPROTO, id="an earlier version, which does not tell"),
        pytest.param({"flows": 0x7FFFFFFF}, errno.ENOENT, id="gone"),
        pytest.param({"flows": "ports"}, errno.EPROTO, id="another map"),
        pytest.param({}, errno.EINVAL, id="our own"),
    ],
)
def test_tables_that_are_refused(in_town: Callable[[Test], None], changed: dict[str, object], reason: int) -> None:
    def refuse(town: Town) -> None:
        transfer = town.trial.engine.transfer
        own = transfer.shared()
        numbers = {name: own.numbers.get(str(each), each) for name, each in changed.items() if name != "kernel"}
        told = SharedTables(str(changed.get("kernel", own.kernel)), {**own.numbers, **numbers})
        if "numbers" in changed:
            told = SharedTables(own.kernel, {})
        with pytest.raises(OSError) as error:
            transfer.follow(told)
        assert error.value.errno == reason
        assert not transfer.follows
        assert transfer.catch_up() == 0

    in_town(refuse)
