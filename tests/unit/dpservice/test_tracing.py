from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dpservice.engine.trial import PASSED, REDIRECTED, SHOT, Outcome, Step
from services.dpservice.tracing.packets import (
    FLAGS,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    BadPacket,
    Wanted,
    checksum,
    described,
    framed,
    ip_header,
    tunnelled,
)
from services.dpservice.tracing.pcap import BadCapture, frames
from services.dpservice.tracing.story import Names, step_text, verdict_text

MACS = bytes(6), bytes(6)
V4, V6 = ("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")


def wanted(
    ends: tuple[str, str], protocol: int, source: int, destination: int, flags: int = FLAGS["syn"], payload: int = 0
) -> Wanted:
    return Wanted(ip_address(ends[0]), ip_address(ends[1]), protocol, source, destination, flags, payload)


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        pytest.param(wanted(V4, TCP, 1, 80), "10.0.0.1:1 > 10.0.0.2:80 TCP syn, 54 bytes", id="TCP"),
        pytest.param(
            wanted(V6, TCP, 1, 80, flags=FLAGS["syn"] | FLAGS["ack"]),
            "[2001:db8::1]:1 > [2001:db8::2]:80 TCP syn+ack, 74 bytes",
            id="TCP over IPv6",
        ),
        pytest.param(wanted(V4, UDP, 1, 53, payload=3), "10.0.0.1:1 > 10.0.0.2:53 UDP, 45 bytes", id="UDP"),
        pytest.param(
            wanted(V4, ICMP, 8, 77), "10.0.0.1 > 10.0.0.2 ICMP echo request, identifier 77, 42 bytes", id="echo"
        ),
        pytest.param(
            wanted(V6, ICMPV6, 129, 77),
            "2001:db8::1 > 2001:db8::2 ICMPv6 echo reply, identifier 77, 62 bytes",
            id="answer over IPv6",
        ),
    ],
)
def test_described(packet: Wanted, text: str) -> None:
    assert described(framed(packet.packet(), *MACS)) == text


def test_a_tunnelled_packet_is_described_with_its_contents() -> None:
    packet = tunnelled(wanted(V4, UDP, 1, 2).packet(), ip_address("fc00::1"), ip_address("fc00::2"))  # type: ignore[arg-type]
    assert described(framed(packet, *MACS)) == "fc00::1 > fc00::2 | 10.0.0.1:1 > 10.0.0.2:2 UDP, 82 bytes"


def test_an_error_is_described_with_its_cause() -> None:
    cause = wanted(V4, UDP, 1, 2).packet()
    body = struct.pack("!BBHI", 3, 4, 0, 1400) + cause
    packet = ip_header(ip_address(V4[1]), ip_address(V4[0]), ICMP, len(body)) + body
    assert "ICMP type 3 code 4 about 10.0.0.1:1 > 10.0.0.2:2 UDP" in described(framed(packet, *MACS))


@given(st.sampled_from((V4, V6)), st.sampled_from((TCP, UDP)), st.integers(0, 65535), st.integers(0, 200))
def test_checksums_are_right(ends: tuple[str, str], protocol: int, port: int, payload: int) -> None:
    packet = wanted(ends, protocol, port, 80, payload=payload).packet()
    size = 20 if ends is V4 else 40
    addresses = packet[12:20] if ends is V4 else packet[8:40]
    body = packet[size:]
    assert checksum(addresses + struct.pack("!II", len(body), protocol) + body) == 0
    assert ends is V6 or checksum(packet[:20]) == 0


@given(st.binary(max_size=120))
def test_any_frame_is_described(frame: bytes) -> None:
    assert described(frame).endswith(f"{len(frame)} bytes")


@pytest.mark.parametrize(
    ("packet", "says"),
    [
        pytest.param(wanted((V4[0], V6[0]), TCP, 1, 2), "are not of one family", id="two families"),
        pytest.param(wanted(V4, TCP, 1, 65536), "not within 0-65535", id="a port too high"),
        pytest.param(wanted(V4, UDP, 1, 2, payload=65536), "more than a packet has room for", id="too long"),
    ],
)
def test_refused(packet: Wanted, says: str) -> None:
    with pytest.raises(BadPacket, match=says):
        packet.packet()


FRAMES = [b"first frame", b"second"]


def classic(order: str, magic: int, link: int = 1) -> bytes:
    content = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    return content + b"".join(struct.pack(f"{order}IIII", 0, 0, len(each), len(each)) + each for each in FRAMES)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(f"{order}II", kind, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


def modern(order: str, link: int = 1) -> bytes:
    head = block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    return (
        head
        + block(order, 1, struct.pack(f"{order}HHI", link, 0, 0))
        + block(order, 6, struct.pack(f"{order}IIIII", 0, 0, 0, len(FRAMES[0]), len(FRAMES[0])) + FRAMES[0])
        + block(order, 5, b"statistics..")
        + block(order, 3, struct.pack(f"{order}I", len(FRAMES[1])) + FRAMES[1])
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(classic("<", 0xA1B2C3D4), id="little endian"),
        pytest.param(classic(">", 0xA1B2C3D4), id="big endian"),
        pytest.param(classic("<", 0xA1B23C4D), id="nanoseconds"),
        pytest.param(modern("<"), id="pcapng"),
        pytest.param(modern(">"), id="pcapng, big endian"),
    ],
)
def test_captures(content: bytes) -> None:
    assert list(frames(content)) == FRAMES


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "too short", id="nothing"),
        pytest.param(b"not a capture", "neither pcap nor pcapng", id="something else"),
        pytest.param(classic("<", 0xA1B2C3D4)[:-1], "a record is cut short", id="cut short"),
        pytest.param(modern("<")[:-4], "a block is cut short", id="pcapng cut short"),
        pytest.param(classic("<", 0xA1B2C3D4, link=113), "link type 113 is not Ethernet", id="not Ethernet"),
        pytest.param(modern("<", link=101), "link type 101 is not Ethernet", id="pcapng, not Ethernet"),
    ],
)
def test_captures_that_are_refused(content: bytes, says: str) -> None:
    with pytest.raises(BadCapture, match=says):
        list(frames(content))


NAMES = Names({0: "net_tap2"}, {7: "uplink 0 (pf0)"}, {3: "no_route"}, {"no_route": "nothing matches"})
FRAME = framed(wanted(V4, UDP, 1, 2).packet(), *MACS)


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        pytest.param(
            Outcome([Step("dropped", 3, 0)], SHOT, FRAME), "dropped: no_route (nothing matches)", id="dropped"
        ),
        pytest.param(
            Outcome([Step("dropped", 3, 0), Step("delivered", 0, 9)], REDIRECTED, FRAME),
            "dropped: no_route (nothing matches); the sender is told: 10.0.0.1:1",
            id="dropped and answered",
        ),
        pytest.param(Outcome([], SHOT, FRAME), "dropped: unknown", id="dropped without a word"),
        pytest.param(Outcome([], PASSED, FRAME), "left to the kernel: ", id="passed"),
        pytest.param(
            Outcome([Step("delivered", 0, 9)], REDIRECTED, FRAME), "sent into net_tap2: 10.0.0.1:1", id="local"
        ),
        pytest.param(
            Outcome([Step("encapsulated", 7, 0)], REDIRECTED, FRAME), "sent out of uplink 0 (pf0): ", id="by an uplink"
        ),
        pytest.param(Outcome([], REDIRECTED, FRAME), "sent back to the sender: ", id="an answer"),
    ],
)
def test_verdicts(outcome: Outcome, text: str) -> None:
    assert verdict_text(outcome, NAMES).startswith(text)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        pytest.param(Step("parsed", 6, 0), "TCP, from net_tap2", id="from a guest"),
        pytest.param(Step("parsed", 132, 0x10000), "protocol 132, out of a tunnel to net_tap2", id="to a guest"),
        pytest.param(Step("public_found", 0xFFFFFFFF, 0), "the destination is shared by NAT", id="NAT"),
        pytest.param(Step("translated", 0x04030201, 99), "address 1.2.3.4, port or identifier 99", id="translated"),
        pytest.param(Step("rule_matched", 2, 0), "rule 2 refuses", id="a rule"),
        pytest.param(Step("later", 1, 2), "1, 2", id="a step of a later version"),
    ],
)
def test_steps(step: Step, text: str) -> None:
    assert step_text(step, NAMES) == text
