"""Frames in bulk: the accelerator and the plain implementation cut every stream alike, into what one by one says."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.metalbond.wire import metalbond_pb2 as pb
from services.metalbond import runs, wire
from services.metalbond.routes import MAX_VNI, NextHop, NextHopType, Route, Vni
from services.metalbond.runs import Run, Scan, Splitter, net, python_removals, python_scan
from services.metalbond.wire import Frame, Framer, Hello, Keepalive, ProtocolError, RouteFrame, Subscribe, Update

SCANS = [pytest.param(python_scan, id="python"), pytest.param(runs.scan, id="accelerated")]

addresses = st.one_of(
    st.integers(0, 2**128 - 1).map(lambda value: ip_address(value.to_bytes(16, "big"))),
    st.integers(0, 2**32 - 1).map(lambda value: ip_address(value.to_bytes(4, "big"))),
)
networks = st.one_of(
    st.builds(lambda a, n: IPv4Network((a, n), strict=False), st.integers(0, 2**32 - 1), st.sampled_from([0, 24, 32])),
    st.builds(
        lambda a, n: IPv6Network((a, n), strict=False), st.integers(0, 2**128 - 1), st.sampled_from([0, 64, 128])
    ),
)
vnis = st.sampled_from([0, 1, 127, 128, MAX_VNI]).map(Vni)
ports = st.tuples(st.integers(0, 65535), st.integers(0, 65535))
hops = st.one_of(
    st.builds(NextHop, addresses, st.sampled_from([0, 2, 7, 2**31 - 1]), target_vni=vnis),
    st.builds(NextHop, addresses, st.just(NextHopType.NAT), ports, vnis),
)
updates = st.builds(
    lambda route, removed: Update(removed, route.vni, wire.encode_route(route)),
    st.builds(Route, vnis, networks, hops),
    st.booleans(),
)
frames = st.one_of(updates, updates, updates, st.sampled_from([Keepalive(), Hello(5), Subscribe(Vni(7))]))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """UPDATE frames of a sender that needs not be ours: any field may be missing, odd or out of bounds."""
    update = pb.Update(action=draw(st.sampled_from([0, 1, 2])), vni=draw(st.sampled_from([0, 5, 2**24, 2**32 - 1])))
    if draw(st.integers(0, 9)):
        update.destination.ipVersion = draw(st.sampled_from([0, 1, 2]))
        update.destination.prefix = draw(st.binary(min_size=4, max_size=4) | st.binary(max_size=17))
        update.destination.prefixLength = draw(st.sampled_from([0, 24, 32, 33, 128, 129, 2**32 - 1]))
    if draw(st.integers(0, 9)):
        update.nextHop.targetAddress = draw(st.binary(min_size=16, max_size=16) | st.binary(max_size=17))
        update.nextHop.targetVNI = draw(st.sampled_from([0, 1, 2**24]))
        update.nextHop.type = draw(st.sampled_from([0, 1, 2, 7, -1]))
        update.nextHop.natPortRangeFrom = draw(st.sampled_from([0, 1024, 65536]))
        update.nextHop.natPortRangeTo = draw(st.sampled_from([0, 2047]))
    payload = update.SerializeToString() + draw(st.sampled_from([b"", b"\x7a\x01x", b"\x08\x00", b"\xff"]))
    return wire.HEADER.pack(1, len(payload), 5) + payload


def one_by_one(stream: bytes) -> tuple[list[Frame], str]:
    """Frames as the plain decoder has them, and why it stopped."""
    found: list[Frame] = []
    try:
        found.extend(wire.decode(*frame) for frame in Framer().feed(stream))
    except ProtocolError as error:
        return found, str(error)
    return found, ""


def of(found: list[Frame], vni: int, kind: int) -> list[Frame]:
    """Updates of a VNI and a type."""
    updates = (each for each in found if isinstance(each, Update))
    return [each for each in updates if (each.vni, wire.type_of(each.route)) == (vni, kind)]


def in_order(found: list[Frame]) -> list[Frame]:
    """The same where different VNIs and types of updates between two other frames have lost their order."""
    groups, sorted_frames = groupby(found, lambda frame: isinstance(frame, Update)), list[Frame]()
    for is_update, group in groups:
        updates = [frame for frame in group if isinstance(frame, Update)] if is_update else []
        sorted_frames += sorted(updates, key=lambda each: (each.vni, wire.type_of(each.route))) or group
    return sorted_frames


def in_bulk(scan: Scan, pieces: list[bytes]) -> tuple[list[Frame], str]:
    splitter, found = Splitter(scan), list[Frame]()
    try:
        for piece in pieces:
            for item in splitter.feed(piece):
                if not isinstance(item, Run):
                    found.append(item)
                    continue
                assert {wire.type_of(route) for route in item.routes} == {item.type}
                found += [Update(item.removed, item.vni, route) for route in item.routes]
    except ProtocolError as error:
        return found, str(error)
    return found, ""


def test_the_accelerator_is_built() -> None:
    assert runs.ACCELERATED, "make -C services/metalbond/native"


@pytest.mark.parametrize("scan", SCANS)
@settings(deadline=None)
@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 90), min_size=1, max_size=5))
def test_frames_come_out_alike_wherever_reads_end(scan: Scan, sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(map(wire.encode, sent))
    pieces, at, step = [], 0, 0
    while at < len(stream):
        pieces.append(stream[at : at + cuts[step % len(cuts)]])
        at, step = at + len(pieces[-1]), step + 1
    found, reason = in_bulk(scan, pieces)
    for vni, kind in {(each.vni, wire.type_of(each.route)) for each in sent if isinstance(each, Update)}:
        assert of(found, vni, kind) == of(sent, vni, kind)
    assert [each for each in found if not isinstance(each, Update)] == [
        each for each in sent if not isinstance(each, Update)
    ]
    assert not reason


@pytest.mark.parametrize("scan", SCANS)
@settings(deadline=None, max_examples=300)
@given(st.lists(messages() | updates.map(wire.encode) | st.binary(max_size=30), max_size=5).map(b"".join))
def test_odd_and_bad_frames_end_alike(scan: Scan, stream: bytes) -> None:
    (bulk, bulk_reason), (found, reason) = in_bulk(scan, [stream]), one_by_one(stream)
    assert (in_order(bulk), bulk_reason) == (in_order(found), reason)


@settings(deadline=None)
@given(updates.map(wire.encode), st.data())
def test_a_flipped_byte_is_judged_alike(frame: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(frame) - 1))
    stream = frame[:at] + bytes([data.draw(st.integers(0, 255))]) + frame[at + 1 :]
    assert in_bulk(runs.scan, [stream]) == one_by_one(stream)


@given(st.lists(updates.map(lambda update: update.route), max_size=5))
def test_removals_are_the_frames_that_take_routes_back(routes: list[RouteFrame]) -> None:
    assert runs.removals(routes) == python_removals(routes) == b"".join(map(wire.removal, routes))


def test_runs_end_where_vni_type_or_direction_change() -> None:
    def route(vni: int, kind: int = 0) -> RouteFrame:
        return wire.encode_route(Route(Vni(vni), ip_network("10.0.0.0/8"), NextHop(ip_address("::1"), kind)))

    stream = route(1) + route(1) + route(2) + wire.removal(route(2)) + route(2, 2) + route(2, 2)
    for scan in (python_scan, runs.scan):
        found, end = scan(stream, 0)
        assert end == len(stream)
        assert [(run.removed, run.vni, run.type, len(run.routes)) for run in found] == [
            (False, 1, 0, 2),
            (False, 2, 0, 1),
            (True, 2, 0, 1),
            (False, 2, 2, 2),
        ]


def test_runs_that_take_turns_are_merged_and_one_route_keeps_its_order() -> None:
    def route(vni: int) -> RouteFrame:
        return wire.encode_route(Route(Vni(vni), ip_network("10.0.0.0/8"), NextHop(ip_address("::1"))))

    stream = (route(1) + route(2)) * 2 + wire.removal(route(1)) + route(2) + route(1)
    found = [run for run in Splitter().feed(stream) if isinstance(run, Run)]
    assert [(run.removed, run.vni, len(run.routes)) for run in found] == [
        (False, 1, 2),
        (False, 2, 3),
        (True, 1, 1),
        (False, 1, 1),
    ]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 2), st.sampled_from([0, 2]), st.integers(0, 5)), max_size=60))
def test_of_routes_that_flap_the_last_word_counts(said: list[tuple[bool, int, int, int]]) -> None:
    def route(vni: int, kind: int, number: int) -> RouteFrame:
        hop = NextHop(ip_address("::1"), kind)
        return wire.encode_route(Route(Vni(vni), ip_network(f"10.0.0.{number}/32"), hop))

    runs = [Run(removed, Vni(vni), kind, [route(vni, kind, number)]) for removed, vni, kind, number in said]
    last = {run.routes[0]: run.removed for run in runs}
    found = net([run._replace(routes=[*run.routes]) for run in runs])
    assert {each: run.removed for run in found for each in run.routes} == last
    assert len(found) <= max(len({run[1:3] for run in runs}) * 4, 0)


def test_a_frame_that_comes_byte_by_byte_is_put_together_once() -> None:
    payload = bytes(60_000)
    splitter = Splitter()
    stream = wire.HEADER.pack(1, len(payload), 3) + b"\x7a" + payload[1:]
    for at in range(len(stream) - 1):
        assert not list(splitter.feed(stream[at : at + 1]))
    assert splitter.incomplete
    with pytest.raises(ProtocolError):
        list(splitter.feed(stream[-1:]))
