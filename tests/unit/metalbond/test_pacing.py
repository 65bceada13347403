"""How much goes out at once, and what is told first."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from services.metalbond.connection import segments
from services.metalbond.pacing import BURST, CHUNK, FIRST_PROBE_SECONDS, EchoPacer, WindowPacer
from services.metalbond.pending import Pending
from services.metalbond.routes import NextHop, Route, Vni
from services.metalbond.wire import RouteFrame, encode_route, removal


def frame(number: int, vni: int = 100) -> RouteFrame:
    return encode_route(Route(Vni(vni), ip_network((number, 32)), NextHop(ip_address("2001:db8::1"))))


def test_a_peer_that_reads_gets_chunk_after_chunk() -> None:
    pacer = WindowPacer()
    assert [pacer.allowance(0, 65_000, float(now)) for now in range(3)] == [CHUNK] * 3


def test_no_more_than_a_burst_is_unacknowledged() -> None:
    pacer = WindowPacer()
    assert pacer.allowance(BURST - CHUNK, 65_000, 0.0) == CHUNK
    assert pacer.allowance(BURST - CHUNK + 1, 65_000, 0.0) == 0


def test_a_peer_that_leaves_bytes_unread_gets_single_frames_with_growing_pauses() -> None:
    pacer = WindowPacer()
    pacer.allowance(0, 65_000, 0.0)
    unread = 65_000 - BURST - 1
    step = FIRST_PROBE_SECONDS / 2
    sent = [round(n * step, 3) for n in range(100) if pacer.allowance(0, unread, n * step + n * 1e-9)]
    assert sent == [0.01, 0.03, 0.07, 0.15, 0.31]
    assert pacer.allowance(0, 65_000, 1.0) == CHUNK


def test_answered_keepalives_clock_updates() -> None:
    pacer, sent = EchoPacer(), 0
    while size := pacer.allowance():
        sent += size
        if pacer.sent(size):
            pacer.probed()
    assert sent == BURST
    pacer.answered()
    assert pacer.allowance() == CHUNK
    for _ in range(5):
        pacer.answered()
    assert pacer.allowance() == CHUNK


def test_what_came_is_told_before_what_went_and_in_order() -> None:
    pending = Pending()
    pending.remove(frame(9))
    for number in range(3):
        pending.add(frame(number))
    assert pending.take_frames(10_000) == [frame(0), frame(1), frame(2), removal(frame(9))]
    assert not pending


def test_frames_are_taken_by_size_but_at_least_one() -> None:
    pending = Pending()
    for number in range(1, 1000):
        pending.add(frame(number))
    assert pending.take_frames(1) == [frame(1)]
    assert len(b"".join(pending.take_frames(8192))) in range(8000, 8300)


def test_a_repeated_route_that_is_withdrawn_is_taken_back() -> None:
    pending = Pending()
    pending.repeat(frame(1))
    pending.repeat(frame(2))
    pending.remove(frame(1))
    assert pending.take_frames(10_000) == [frame(2), removal(frame(1))]


def test_forgetting_a_vni_leaves_the_others() -> None:
    pending = Pending()
    for vni in (100, 101):
        pending.add(frame(1, vni))
        pending.remove(frame(2, vni))
    pending.forget(lambda route: route == frame(1, 100) or route == frame(2, 100))
    assert pending.take(10) == ([frame(1, 101)], [frame(2, 101)])


def test_segments_hold_whole_frames() -> None:
    frames = [bytes([length]) * length for length in (3, 3, 3, 9, 1, 20, 4)]
    assert list(segments(frames, 9)) == [
        frames[0] + frames[1] + frames[2],
        frames[3],
        frames[4],
        frames[5],
        frames[6],
    ]
