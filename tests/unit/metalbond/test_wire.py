"""Frames: golden bytes, round trips, reassembly, what is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metalbond import wire
from services.metalbond.routes import MAX_VNI, NextHop, NextHopType, Route, Vni
from services.metalbond.wire import Frame, Framer, Hello, Keepalive, ProtocolError, Subscribe, Unsubscribe, Update

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "metalbond.json").read_text())

addresses = st.integers(0, 2**128 - 1).map(lambda value: ip_address(value.to_bytes(16, "big")))
networks = st.one_of(
    st.builds(lambda a, n: IPv4Network((a, n), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(lambda a, n: IPv6Network((a, n), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)),
)
vnis = st.integers(0, MAX_VNI).map(Vni)
ports = st.tuples(st.integers(0, 65535), st.integers(0, 65535))
hops = st.one_of(
    st.builds(NextHop, addresses, st.sampled_from([0, 2, 7]), target_vni=vnis),
    st.builds(NextHop, addresses, st.just(NextHopType.NAT), ports, vnis),
)
routes = st.builds(Route, vnis, networks, hops)


def frame_of(vector: dict[str, Any]) -> Frame:
    match vector:
        case {"hello": fields}:
            return Hello(**fields)
        case {"subscribe": vni}:
            return Subscribe(vni)
        case {"unsubscribe": vni}:
            return Unsubscribe(vni)
        case {"update": fields}:
            route = route_of(fields)
            return Update(fields["removed"], route.vni, wire.encode_route(route))
    return Keepalive()


def route_of(fields: dict[str, Any]) -> Route:
    nat_ports = tuple(fields["nat_ports"]) if "nat_ports" in fields else None
    hop = NextHop(ip_address(fields["address"]), fields["type"], nat_ports)
    return Route(Vni(fields["vni"]), ip_network(fields["destination"]), hop)


def only_frame(data: bytes) -> Frame:
    ((kind, payload),) = Framer().feed(data)
    return wire.decode(kind, payload)


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in VECTORS["frames"]])
def test_golden_frames(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    assert wire.encode(frame_of(vector)) == data
    assert only_frame(data) == frame_of(vector)
    if "update" in vector:
        update = only_frame(data)
        assert isinstance(update, Update)
        assert wire.decode_route(update.route) == route_of(vector["update"])


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in VECTORS["hostile"]])
def test_hostile_frames_name_their_cause(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as refused:
        only_frame(bytes.fromhex(vector["hex"]))
    assert refused.value.cause == vector["cause"]


@given(routes)
def test_a_route_survives_the_wire(route: Route) -> None:
    frame = wire.encode_route(route)
    assert wire.decode_route(frame) == route
    assert wire.vni_of(frame) == route.vni
    assert wire.masked(frame) == frame
    for removed, data in ((False, bytes(frame)), (True, wire.removal(frame))):
        assert only_frame(data) == Update(removed, route.vni, frame)


@given(routes, routes)
def test_a_destination_key_tells_destinations_apart(one: Route, other: Route) -> None:
    same = (one.vni, one.destination) == (other.vni, other.destination)
    keys = [wire.destination_key(wire.encode_route(route)) for route in (one, other)]
    assert (keys[0] == keys[1]) == same
    assert wire.encode_route(other).startswith(keys[0], wire.HEADER_SIZE) == same


@given(st.lists(routes, max_size=5), st.lists(st.integers(1, 60), min_size=1))
def test_frames_come_out_whole_wherever_reads_end(sent: list[Route], cuts: list[int]) -> None:
    stream = b"".join(wire.encode_route(route) for route in sent)
    framer, received, at, step = Framer(), [], 0, 0
    while at < len(stream):
        size = cuts[step % len(cuts)]
        received += [wire.decode(*frame) for frame in framer.feed(stream[at : at + size])]
        at, step = at + size, step + 1
    assert [wire.decode_route(update.route) for update in received if isinstance(update, Update)] == sent


@given(st.binary(max_size=200))
def test_noise_is_decoded_or_refused_and_nothing_else(data: bytes) -> None:
    for stream in (data, b"\x01\x00" + bytes([len(data)]) + b"\x05" + data):
        frames: list[Frame] = []
        with suppress(ProtocolError):
            frames.extend(wire.decode(kind, payload) for kind, payload in Framer().feed(stream))
        assert [only_frame(wire.encode(frame)) for frame in frames] == frames


def test_frames_before_a_bad_one_still_count() -> None:
    frames = Framer().feed(bytes.fromhex("01000002 01000002 02000002"))
    assert [next(frames)[0], next(frames)[0]] == [2, 2]
    with pytest.raises(ProtocolError, match="bad version"):
        next(frames)


def test_a_payload_beyond_the_limit_is_taken_but_its_surplus_not_passed_on() -> None:
    plain = wire.encode_route(Route(Vni(1), ip_network("10.0.0.0/8"), NextHop(ip_address("2001:db8::1"))))
    surplus = b"\x7a\xff\x7f" + bytes(16383)  # an unknown field 15
    payload = plain[wire.HEADER_SIZE :] + surplus
    assert only_frame(wire.HEADER.pack(1, len(payload), 5) + payload) == Update(False, Vni(1), plain)


@pytest.mark.parametrize(
    ("payload", "canonical"),
    [
        pytest.param(
            "1064 1a08 12040a00172a 1818 2212 0a10 20010db8000000000000000000000001",
            "1064 1a08 12040a00172a 1818 2212 0a10 20010db8000000000000000000000001",
            id="host bits stay",
        ),
        pytest.param(
            "1064 1a08 12040a00172a 1820 2214 0a10 20010db8000000000000000000000001 2001",
            "1064 1a08 12040a00172a 1820 2212 0a10 20010db8000000000000000000000001",
            id="ports without NAT go",
        ),
        pytest.param(
            "2212 0a10 20010db8000000000000000000000001 1a08 12040a00172a 1820 0800 1064",
            "1064 1a08 12040a00172a 1820 2212 0a10 20010db8000000000000000000000001",
            id="fields out of order are put in order",
        ),
    ],
)
def test_updates_are_brought_into_one_form(payload: str, canonical: str) -> None:
    assert wire.decode_update(bytes.fromhex(payload)).route[wire.HEADER_SIZE :] == bytes.fromhex(canonical)


def test_masking_zeroes_host_bits() -> None:
    update = wire.decode_update(bytes.fromhex("1064 1a08 12040a00172a 1818 2212 0a10 20010db8000000000000000000000001"))
    assert wire.masked(update.route) == wire.encode_route(wire.decode_route(update.route))
    assert str(wire.decode_route(update.route).destination) == "10.0.23.0/24"


@pytest.mark.parametrize(
    ("build", "field"),
    [
        pytest.param(lambda: NextHop(ip_address("::1"), NextHopType.NAT), "nat_ports", id="NAT without ports"),
        pytest.param(lambda: NextHop(ip_address("::1"), 0, (1, 2)), "nat_ports", id="ports without NAT"),
        pytest.param(lambda: NextHop(ip_address("::1"), 1, (1, 65536)), "nat_ports", id="a port beyond 16 bits"),
        pytest.param(lambda: NextHop(ip_address("::1"), target_vni=Vni(2**24)), "target_vni", id="a huge target VNI"),
        pytest.param(lambda: NextHop(ip_address("::1"), -1), "type", id="a negative type"),
        pytest.param(lambda: Route(Vni(2**24), ip_network("::/0"), NextHop(ip_address("::1"))), "vni", id="a huge VNI"),
    ],
)
def test_values_that_the_wire_cannot_carry_are_refused(build: Any, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        build()
