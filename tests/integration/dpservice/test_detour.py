"""The detour of large packets towards TAPs: what goes in and comes out, what follows it, and who can't use it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address

import pytest

from services.dpservice.engine.codec import u32
from services.dpservice.engine.detour import MAC, NAME, SID
from services.dpservice.engine.libbpf import Map
from services.dpservice.engine.runs import run_at_tc
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.frames import ethernet, ipv4, ipv6, udp
from tests.integration.dpservice.lab import Lab, eventually, run
from tests.integration.dpservice.namespaces import raw_socket
from tests.integration.dpservice.path_town import A4, B6, NET4, NET6, SHARED, Test, Town, ends
from tests.support.dpservice.packets import ACK, echo, tcp
from tests.support.dpservice.town import OTHER, tunnelled
from tests.support.dpservice.trial import REDIRECT, SHOT

SIDE = IPv6Address(SID.partition("/")[0]).packed
OUTER, HEADER = 14 + 40, 14
MOST = 2048  # as in detour.h
PACKETS = {
    "IPv4": ("a", 4, tcp(ends(NET4, 80, A4, 7), ACK, bytes(100))),
    "IPv6": ("b", 41, tcp(ends(NET6, 80, B6, 7), ACK, bytes(100))),
}


@pytest.fixture(scope="module")
def in_town(in_town: Callable[[Test], None]) -> Callable[[Test], None]:
    """On one processor: each has a count of its own of what is inside."""

    def use(test: Test, town: Town) -> None:
        allowed, uses = os.sched_getaffinity(0), uses_of(town)
        os.sched_setaffinity(0, {min(allowed)})
        uses.put_per_cpu(u32(0), 0)
        try:
            test(town)
        finally:
            uses.put_per_cpu(u32(0), 0)
            os.sched_setaffinity(0, allowed)

    return lambda test: in_town(partial(use, test))


def uses_of(town: Town) -> Map:
    return town.trial.engine._object.map("detour_uses")


def inside(entered: int, left: int = 0) -> int:
    """struct detour_use as a number."""
    return entered | left << 16


def arriving(town: Town, name: str, packet: bytes, source: IPv6Address = OTHER) -> tuple[int, bytes]:
    program = town.trial.engine._object.program("from_uplink")
    return run_at_tc(program, town.trial.uplinks[0].ifindex, tunnelled(packet, town.u[name], source))


def coming_out(town: Town, frame: bytes) -> tuple[int, bytes]:
    program = town.trial.engine._object.program("from_detour")
    return run_at_tc(program, socket.if_nametoindex(NAME), frame)


def is_detoured(frame: bytes) -> bool:
    return frame[38:54] == SIDE


@pytest.mark.parametrize("kind", PACKETS)
def test_what_follows_large_packets_takes_their_way(in_town: Callable[[Test], None], kind: str) -> None:
    """As Ethernet behind the header of a tunnel to this host, which says whom it is for, and out to the guest."""
    name, next_header, packet = PACKETS[kind]

    def follow(town: Town) -> None:
        verdict, direct = arriving(town, name, packet)
        assert verdict == REDIRECT
        assert direct[14:] == packet

        uses_of(town).put_per_cpu(u32(0), inside(entered=5))
        verdict, frame = arriving(town, name, packet)
        assert verdict == REDIRECT
        before = tunnelled(packet, town.u[name])
        assert frame[:6] == MAC
        assert frame[14:18] == before[14:18]
        assert frame[18:20] == struct.pack(">H", len(packet) + HEADER)
        assert (before[20], frame[20], frame[21]) == (next_header, 143, before[21])
        assert frame[22:54] == SIDE + SIDE
        assert frame[OUTER + HEADER - 2 : OUTER + HEADER] == (b"\x08\x00" if next_header == 4 else b"\x86\xdd")
        assert frame[OUTER + HEADER :] == packet

        assert coming_out(town, frame[OUTER:]) == (REDIRECT, direct)
        assert arriving(town, name, packet)[1] == direct, "nobody is inside any more"

    in_town(follow)


def test_no_more_go_in_where_none_come_out(in_town: Callable[[Test], None]) -> None:
    """Something of the host keeps them: they are cut by the kernel then, not lost."""
    name, _, packet = PACKETS["IPv4"]

    def wait(town: Town) -> None:
        uses_of(town).put_per_cpu(u32(0), inside(entered=1))
        went_in = 0
        while is_detoured(arriving(town, name, packet)[1]):
            went_in += 1
        assert went_in == MOST - 1

    in_town(wait)


@pytest.mark.parametrize("entered", [0x10005, 3], ids=["numbers wrap", "a restart set them back"])
def test_numbers_of_packets(in_town: Callable[[Test], None], entered: int) -> None:
    name, _, packet = PACKETS["IPv4"]

    def count(town: Town) -> None:
        uses_of(town).put_per_cpu(u32(0), inside(entered & 0xFFFF, left=0xFFFE if entered > 0xFFFF else 9))
        assert is_detoured(arriving(town, name, packet)[1]) == (entered > 0xFFFF)

    in_town(count)


def test_neither_strangers_nor_what_may_be_sent_on_goes_in(in_town: Callable[[Test], None]) -> None:
    name, _, packet = PACKETS["IPv4"]

    def refuse(town: Town) -> None:
        uses_of(town).put_per_cpu(u32(0), inside(entered=5))
        before = town.trial.engine.drops()["untrusted_source"]
        assert arriving(town, name, packet, IPv6Address("2001:db8:bad::1"))[0] == SHOT
        assert town.trial.engine.drops()["untrusted_source"] == before + 1
        assert not is_detoured(arriving(town, "LB", tcp(ends(NET4, 80, A4, 80), ACK))[1])
        verdict, answer = arriving(town, "NAT", echo(ends(NET4, 7, SHARED, 0)))
        assert (verdict, answer[38:54]) == (REDIRECT, OTHER.packed), "who answers for NAT has to know who asked"

    in_town(refuse)


def test_what_comes_out_has_to_say_whom_it_is_for(in_town: Callable[[Test], None]) -> None:
    """As nothing does that the kernel itself sends by that device."""
    packet = PACKETS["IPv4"][2]

    def refuse(town: Town) -> None:
        assert coming_out(town, bytes.fromhex("333300000002 02fed0440001 86dd") + packet)[0] == SHOT

    in_town(refuse)


def test_no_host_of_the_fabric_gets_in(lab: Lab) -> None:
    """The tunnel's end is the kernel's, and anybody can write to it; who does not come by our way is refused there."""
    host = lab.hosts[1]
    host.start()
    host.initialize()
    victim = lab.tap_guest(host, 0, "10.0.0.2", "2001:db8::2")
    host.create(victim, VNI, "b")
    host.route(VNI, "10.0.0.9/32", "fc00:1:0:1::9")
    victim.ping("10.99.99.99", "-W", "0.1")
    packet = ipv4("10.0.0.9", victim.ipv4, 17, udp(9, 9, b"from outside"))
    header = struct.pack(">H", 0x02FE) + struct.pack("<HBBHI", 1, 1, 64, 0, VNI) + b"\x08\x00"
    router, uplink = mac_of(lab.fabric, "h2pf0"), mac_of(host.namespace, "pf0")
    frame = ethernet(uplink, router, 0x86DD, ipv6("fc00:1:0:1::1", str(IPv6Address(SIDE)), 143, header + packet))
    attacker, ear = raw_socket(lab.fabric, "h2pf0"), raw_socket(victim.namespace, "eth0")
    ear.settimeout(0.5)
    try:
        before = host.drops()["untrusted_source"]
        attacker.send(frame)
        eventually(lambda: host.drops()["untrusted_source"] == before + 1)
        heard = frames_of(ear)
        assert not [frame for frame in heard if b"from outside" in frame]
    finally:
        attacker.close()
        ear.close()


def frames_of(ear: socket.socket) -> list[bytes]:
    """What it hears until it hears nothing for a while."""
    heard = []
    while True:
        try:
            heard.append(ear.recv(2048))
        except TimeoutError:
            return heard


def mac_of(namespace: str, device: str) -> str:
    return run("ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{device}/address").strip()
