"""Sessions with virtual services, from one data plane to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import pytest

from services.dpservice.engine.ebpf import EbpfEngine
from services.dpservice.engine.interface import PacketSettings
from services.dpservice.guest.virtual import VirtualService, service_underlay
from tests.integration.dpservice.path_town import A4, B4, A, B, Test, Town, ends
from tests.integration.dpservice.takeover import another, at, take_over
from tests.support.dpservice.fates import Delivered, Dropped, Fate, Tunnelled
from tests.support.dpservice.packets import tcp, udp
from tests.support.dpservice.town import HOST
from tests.support.dpservice.trial import TRUSTED

REMOTE = IPv6Address("fd00:5::53")
NAMES = VirtualService("udp", IPv4Address("169.254.1.1"), 53, REMOTE, 5353)
PAGES = VirtualService("tcp", IPv4Address("169.254.1.2"), 80, REMOTE, 8080)
FIRST = 1025  # of a service's source ports
Tables = tuple[dict[bytes, bytes], dict[bytes, bytes], list[bytes]]


def serve(engine: EbpfEngine, *services: VirtualService) -> None:
    engine.configure(PacketSettings(HOST.packed[:8], True, True, TRUSTED, HOST, virtual_services=services))


@pytest.fixture(scope="module")
def in_town(in_town: Callable[[Test], None]) -> Callable[[Test], None]:
    """With two virtual services."""

    def use(test: Test, town: Town) -> None:
        serve(town.trial.engine, NAMES, PAGES)
        test(town)

    return lambda test: in_town(partial(use, test))


def tables(engine: EbpfEngine) -> Tables:
    maps, layout = engine._object.map, engine._codec.layouts["session"]
    places = {place: layout.changed(raw, epoch=0) for place, raw in maps("source_ports").items()}
    return places, dict(maps("sessions").items()), maps("session_counts").values()


def ask(town: Town, port: int) -> Fate:
    guest, address = (A, A4) if port < 2000 else (B, B4)
    return town.guest(guest, udp(ends(address, port, NAMES.address, NAMES.port)))


def answer(town: Town, source_port: int) -> Fate:
    """Of the first service, to what was asked with a source port."""
    uplink = town.trial.uplinks[0]
    packet = udp(ends(REMOTE, NAMES.service_port, service_underlay(HOST.packed[:8], 0), source_port))
    return town.trial.tried_from_uplink(0, uplink.mac + uplink.router + b"\x86\xdd" + packet)


def open_sessions(town: Town) -> None:
    for port in (1001, 1002, 2001):
        assert isinstance(ask(town, port), Tunnelled)
    assert isinstance(town.guest(A, tcp(ends(A4, 1001, PAGES.address, PAGES.port))), Tunnelled)


def test_from_the_tables_themselves(in_town: Callable[[Test], None]) -> None:
    """All, with the counts of guests; then those that are missing, though a packet came before that."""

    def adopt(town: Town) -> None:
        first = town.trial.engine
        open_sessions(town)
        with another(town) as other:
            second = other.trial.engine
            serve(second, NAMES, PAGES)
            assert isinstance(ask(other, 1077), Tunnelled), "of an earlier time"
            take_over(second, first)
            assert tables(second) == tables(first)
            with at(town, first):
                assert isinstance(ask(town, 1003), Tunnelled)
                kept = ask(town, 1001)
            assert isinstance(answer(other, FIRST + 3), Dropped)
            assert second.transfer.catch_up() == 1
            assert tables(second) == tables(first)
            assert ask(other, 1001) == kept, "it has the same source port"
            for number, guest in enumerate((A, A, B, A)):
                fate = answer(other, FIRST + number)
                assert isinstance(fate, Delivered)
                assert fate.port == guest
            assert isinstance(ask(other, 2002), Tunnelled)
            assert isinstance(answer(other, FIRST + 4), Delivered), "new ones go on from there"

    in_town(adopt)


def test_by_messages(in_town: Callable[[Test], None]) -> None:
    """All, then what became different, then what is gone."""

    def follow(town: Town) -> None:
        first = town.trial.engine
        source = first.transfer.source()
        open_sessions(town)
        with another(town) as other:
            second = other.trial.engine
            serve(second, NAMES, PAGES)
            for act in (lambda: None, lambda: ask(town, 1003), lambda: ask(town, 1003), lambda: forget(first)):
                with at(town, first):
                    act()
                second.transfer.receive(source.changes())
            assert len(tables(second)[0]) == 4
            second.transfer.settle()
            assert tables(second) == tables(first)
            assert isinstance(answer(other, FIRST + 3), Delivered)

    def forget(engine: EbpfEngine) -> None:
        maps, layout = engine._object.map, engine._codec.layouts["source_port_key"]
        place = layout.pack(service=1, port=1)
        (key,) = (
            key
            for key, _ in maps("sessions").items()
            if engine._codec.layouts["session_key"].number(key, "service") == 1
        )
        maps("source_ports").remove(place)
        maps("sessions").remove(key)
        count = maps("session_counts").get(bytes(4)) or b""
        maps("session_counts").put(bytes(4), bytes([count[0] - 1]) + count[1:])

    in_town(follow)


@pytest.mark.parametrize("is_direct", [pytest.param(True, id="tables"), pytest.param(False, id="messages")])
def test_another_service_has_other_sessions(in_town: Callable[[Test], None], *, is_direct: bool) -> None:
    """The one with that index is another one here; what is the same goes on."""

    def adopt(town: Town) -> None:
        first = town.trial.engine
        open_sessions(town)
        with another(town) as other:
            second = other.trial.engine
            serve(second, replace(NAMES, port=54), PAGES)
            if is_direct:
                second.transfer.follow(first.transfer.shared())
            else:
                second.transfer.receive(first.transfer.source().changes())
            second.transfer.settle()
            assert second.service_ports() == {"UDP:169.254.1.1:54": 0, "TCP:169.254.1.2:80": 1}
            second.transfer.catch_up()

    in_town(adopt)
