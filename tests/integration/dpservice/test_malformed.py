"""Malformed packets: each is dropped for a counted reason or forwarded whole, and none reaches another VNI."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.dpservice.model.keys import FunctionKey
from services.dpservice.model.rows import Function, InterfaceId, IPAddress
from tests.support.dpservice import calls
from tests.support.dpservice.damage import damaged
from tests.support.dpservice.fates import Delivered, Dropped, Fate, Passed, Tunnelled
from tests.support.dpservice.packets import error, packet
from tests.support.dpservice.town import HOST, OTHER, framed, tunnelled
from tests.support.dpservice.trial import Trial, trials
from tests.support.dpservice.wire import ICMP, TCP, UDP, Endpoints, Malformed, read_packet, verified

EXAMPLES = 600
OUTER = 54
SHORTEST = {4: 20}  # bytes of IPv4 that a test run takes; of all else 40
SHORTEST_ELSE = 40
XDP_ROOM = 3000  # bytes that a test run puts into one page
ALLOWED = (*calls.HOPS, *(IPv6Address(f"fc00:1::d000:1:0:{n:x}") for n in range(4, 12)))  # and balancers' targets
MARKED = ("kind", "vni", "port")
LONE_PORT = 2  # the only guest of the second VNI
PORTS = st.sampled_from(calls.PORTS)


@pytest.fixture(scope="module")
def in_trial() -> Iterator[Callable[[Callable[[Trial], None]], None]]:
    with trials() as run:
        yield run


def populate(trial: Trial) -> None:
    """a and b in the first VNI with a VIP, NAT and a balancer; c alone in the second."""
    trial.reset()
    for index, vni in ((0, 0), (1, 0), (LONE_PORT, 1)):
        name, device = InterfaceId("abc"[index]), calls.DEVICES[index]
        trial.call(calls.create_interface(name, device, calls.VNIS[vni], index + 1))
    for prefix in calls.ROUTES[:3]:
        trial.call(calls.create_route(calls.VNIS[0], prefix, calls.HOPS[1]))
    for call in (*calls.VIP_OF_A, *calls.NAT_OF_A_AND_B, *calls.BALANCER_TO_B):
        trial.call(call)


@st.composite
def sound(draw: st.DrawFn, sources: tuple[IPAddress, ...]) -> bytes:
    """A packet with nothing wrong, from one of the sources."""
    source = draw(st.sampled_from(sources))
    destination = draw(st.sampled_from([each for each in calls.ADDRESSES if each.version == source.version]))
    protocol = draw(st.sampled_from([TCP, UDP, ICMP]))
    ports = draw(PORTS), draw(PORTS)
    ends = Endpoints(source, ports[0], destination, ports[0] if protocol == ICMP else ports[1])
    made = packet(ends, protocol)
    return complaint(draw, ends) if draw(st.integers(0, 3)) == 0 else made.data


def complaint(draw: st.DrawFn, ends: Endpoints) -> bytes:
    """An ICMP error of the source about something that the destination may have sent it, maybe with a bad quote."""
    about = packet(ends.turned(), draw(st.sampled_from([TCP, UDP])))
    if draw(st.booleans()):
        spoilt = draw(damaged(about.data))
        about = replace(about, data=spoilt.ljust(about.transport + 8, b"\0"))
    kind = 3 if about.version == 4 else draw(st.sampled_from([1, 2]))
    return error(ends.source, ends.destination, about, kind, draw(st.sampled_from([2, 3, 4])))


def check(sent: bytes, fate: Fate, senders: tuple[IPv6Address, ...] = (HOST,)) -> str:
    """What may become of a packet of the first VNI, however it looks. Returns the kind of fate."""
    if isinstance(fate, Dropped):
        assert len(fate.reasons) == 1, f"{sent.hex()} is counted as {fate.reasons}"
        return min(fate.reasons)
    if isinstance(fate, Passed):
        return "passed"
    came = fate.frame[14 if isinstance(fate, Delivered) else OUTER :]
    if isinstance(fate, Delivered):
        assert fate.port != LONE_PORT, f"{sent.hex()} reached another VNI"
    else:
        assert_outer(fate, came)
        source, destination = IPv6Address(fate.frame[22:38]), IPv6Address(fate.frame[38:54])
        assert source in senders, f"{sent.hex()} left from {source}"
        assert destination in ALLOWED, f"{sent.hex()} left for {destination}"
    assert_forwarded_whole(sent, came)
    return type(fate).__name__


def assert_outer(fate: Tunnelled, came: bytes) -> None:
    length, inner = struct.unpack_from("!HB", fate.frame, 18)
    assert inner == (4 if came[0] >> 4 == 4 else 41)
    assert length <= len(came)
    assert length == (int.from_bytes(came[2:4], "big") if inner == 4 else int.from_bytes(came[4:6], "big") + 40)


def assert_forwarded_whole(sent: bytes, came: bytes) -> None:
    """A sound packet stays sound, whatever was rewritten; nothing but headers changes."""
    try:
        before = read_packet(sent)
    except Malformed:
        return
    if before.version == came[0] >> 4 and verified(before):
        assert verified(read_packet(came)), f"{sent.hex()} became {came.hex()}"


def explore(
    send: Callable[[bytes, st.DataObject], Fate], sources: tuple[IPAddress, ...], senders: tuple[IPv6Address, ...]
) -> Counter[str]:
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def each(data: st.DataObject) -> None:
        sent = data.draw(damaged(data.draw(sound(sources))))
        if len(sent) >= SHORTEST.get(sent[0] >> 4, SHORTEST_ELSE):
            seen[check(sent, send(sent, data), senders)] += 1

    each()
    return seen


def from_guest(trial: Trial) -> None:
    populate(trial)
    guest = trial.model.interfaces()[0]
    assert guest.ipv4
    assert guest.ipv6

    def send(sent: bytes, data: st.DataObject) -> Fate:
        return trial.tried_from_guest(guest.port, framed(sent, bytes([2, 0xAA, 0, 0, 0, guest.port])))

    seen = explore(send, (guest.ipv4, guest.ipv6), (HOST, guest.underlay))
    assert seen["Delivered"]
    assert seen["Tunnelled"]
    assert len(seen) > 5, seen


def from_fabric(trial: Trial) -> None:
    populate(trial)
    functions = [
        key.underlay
        for key, row in trial.reference.world.rows.items()
        if isinstance(key, FunctionKey) and getattr(row, "vni", None) == calls.VNIS[0]
    ]

    def send(sent: bytes, data: st.DataObject) -> Fate:
        return trial.tried_from_uplink(0, tunnelled(sent, data.draw(st.sampled_from(functions))))

    seen = explore(send, (*calls.REMOTE, *calls.STRANGERS), (HOST,))
    assert seen["Delivered"]
    assert len(seen) > 5, seen


def outer_headers(trial: Trial) -> None:
    """The outer header is damaged: the host's own stack may get it, no guest but the one it names."""
    populate(trial)
    guest = trial.model.interfaces()[0]
    assert guest.ipv4
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def each(data: st.DataObject) -> None:
        inner = packet(Endpoints(calls.REMOTE[0], 5, guest.ipv4 or OTHER, 6), UDP).data
        frame = tunnelled(inner, guest.underlay)
        broken = frame[:14] + data.draw(damaged(frame[14:]))
        if len(broken) < 14 + SHORTEST_ELSE:
            return
        fate = trial.tried_from_uplink(0, broken)
        if isinstance(fate, Delivered) and IPv6Address(broken[38:54]) == guest.underlay:
            assert fate.port == guest.port
        seen[check(broken[OUTER:], fate)] += 1

    each()
    assert seen["passed"]
    assert len(seen) > 3, seen


def before_the_kernel(trial: Trial) -> None:
    """What the program at XDP unwraps is for the function that the outer destination names, and is all of the rest."""
    populate(trial)
    functions = {key.underlay: row for key, row in trial.reference.world.rows.items() if isinstance(key, FunctionKey)}
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def each(data: st.DataObject) -> None:
        inner = data.draw(damaged(data.draw(sound((*calls.REMOTE, *calls.STRANGERS)))))
        frame = tunnelled(inner, data.draw(st.sampled_from(list(functions))))
        if data.draw(st.booleans()):
            frame = frame[:14] + data.draw(damaged(frame[14:]))
        if not 14 < len(frame) < XDP_ROOM:
            return
        seen[check_early(frame, *trial.tried_at_xdp(frame), functions)] += 1

    each()
    assert seen["unwrapped"]
    assert seen["passed"]


def check_early(frame: bytes, fate: Fate, after: bytes, functions: Mapping[IPv6Address, object]) -> str:
    if isinstance(fate, Dropped):
        assert len(fate.reasons) == 1, f"{frame.hex()} is counted as {fate.reasons}"
        return min(fate.reasons)
    if after == frame:
        return "passed"
    function = functions[IPv6Address(frame[38:54])]
    assert isinstance(function, Function)
    rest = frame[OUTER:]
    mark, ethernet = after[: -len(rest) - 14], after[-len(rest) - 14 : -len(rest)]
    assert after.endswith(rest)
    assert ethernet == frame[:12] + struct.pack("!H", 0x0800 if frame[20] == 4 else 0x86DD)
    assert struct.unpack_from("=H2xII", mark, 4)[: len(MARKED)] == tuple(getattr(function, name) for name in MARKED)
    return "unwrapped"


def every_length(trial: Trial) -> None:
    """Each kind of packet, cut after each byte: plain, in a tunnel, and in a tunnel that is cut itself."""
    populate(trial)
    guest, other = trial.model.interfaces()[:2]
    assert guest.ipv4 and guest.ipv6 and other.ipv4 and other.ipv6  # noqa: PT018
    mac = bytes([2, 0xAA, 0, 0, 0, guest.port])
    for protocol in (TCP, UDP, ICMP):
        for source, destination in ((guest.ipv4, other.ipv4), (guest.ipv6, other.ipv6)):
            there = packet(Endpoints(source, 7, destination, 7), protocol)
            told = error(source, destination, packet(there.ends.turned(), UDP), 3 if there.version == 4 else 1)
            for whole in (there.data, told):
                for size in range(SHORTEST.get(whole[0] >> 4, SHORTEST_ELSE), len(whole)):
                    fate = trial.tried_from_guest(guest.port, framed(whole[:size], mac))
                    assert isinstance(fate, Dropped), f"{size} bytes of {whole.hex()}"
                    check(whole[:size], fate)
                    inside = trial.tried_from_uplink(0, tunnelled(whole[:size], other.underlay))
                    assert isinstance(inside, Dropped), f"{size} bytes of {whole.hex()}"
                    check(whole[:size], inside)
                frame = tunnelled(whole, other.underlay)
                for size in range(14 + SHORTEST_ELSE, len(frame)):
                    outside = trial.tried_from_uplink(0, frame[:size])
                    assert isinstance(outside, Dropped | Passed), f"{size} bytes of {frame.hex()}"
                    check(frame[OUTER:size], outside)


@pytest.mark.parametrize("attack", [from_guest, from_fabric, outer_headers, before_the_kernel, every_length])
def test_nothing_malformed_does_harm(
    in_trial: Callable[[Callable[[Trial], None]], None], attack: Callable[[Trial], None]
) -> None:
    in_trial(attack)
