"""Captures: what a sink in the underlay gets of guests' and uplinks' packets, byte by byte."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.engine.capture import Points
from services.dpservice.engine.pins import Pins
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.frames import BROADCAST, arp, ethernet, mac
from tests.integration.dpservice.lab import GATEWAY4, Host, Lab, eventually, run
from tests.integration.dpservice.namespaces import inside, raw_socket, stream_socket

SINK, FROM, TO = "fd00:5::9", 3000, 4000
HEADERS = 62
UDP_NO_CHECK6_RX = 102  # linux/udp.h


class Sink:
    """Reads mirrored frames where they leave the first host for the fabric, with their outer headers."""

    def __init__(self, lab: Lab) -> None:
        run("ip", "-n", lab.fabric, "link", "set", "lo", "up")
        run("ip", "-n", lab.fabric, "address", "add", f"{SINK}/128", "dev", "lo", "nodad")
        self._socket = raw_socket(lab.fabric, "h1pf0")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.datagrams = inside(lab.fabric, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        self.datagrams.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)
        self.datagrams.bind((SINK, TO))

    def frame(self, wanted: Callable[[bytes], bool] = lambda _: True, seconds: float = 10) -> bytes | None:
        """The next mirrored frame that is wanted, outer headers included."""
        self._socket.settimeout(seconds)
        destination = IPv6Address(SINK).packed
        while True:
            try:
                frame = self._socket.recv(1 << 17)
            except TimeoutError:
                return None
            if frame[38:54] == destination and frame[20] == 17 and wanted(frame[HEADERS:]):
                return frame

    def close(self) -> None:
        self._socket.close()
        self.datagrams.close()


@pytest.fixture
def sink(pair: Lab) -> Iterator[Sink]:
    made = Sink(pair)
    yield made
    made.close()


def _start(host: Host, *points: str | int, sink: str = SINK) -> int:
    interfaces = [
        pb.CapturedInterface(interface_type=pb.SINGLE_PF, pf_index=point)
        if isinstance(point, int)
        else pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=point.encode())
        for point in points
    ]
    config = pb.CaptureConfig(
        sink_node_ip=pb.IpAddress(ipver=pb.IPV6, address=sink.encode()),
        udp_src_port=FROM,
        udp_dst_port=TO,
        interfaces=interfaces,
    )
    answer = host.stub.CaptureStart(pb.CaptureStartRequest(capture_config=config), timeout=30)
    return int(answer.status.code)


def _stop(host: Host) -> tuple[int, int]:
    answer = host.stub.CaptureStop(pb.CaptureStopRequest(), timeout=30)
    return answer.status.code, answer.stopped_interface_cnt


def _headers(lab: Lab, length: int) -> bytes:
    """What stands in front of a frame of this length."""
    router, uplink = (
        run("ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{device}/address").strip()
        for namespace, device in ((lab.fabric, "h1pf0"), (lab.hosts[0].namespace, "pf0"))
    )
    ip = struct.pack("!IHBB", 6 << 28, 8 + length, 17, 64)
    addresses = IPv6Address(lab.hosts[0].address).packed + IPv6Address(SINK).packed
    return ethernet(router, uplink, 0x86DD, ip + addresses + struct.pack("!HHHH", FROM, TO, 8 + length, 0))


def _is_ping(kind: int, skip: int = 0) -> Callable[[bytes], bool]:
    return lambda frame: (
        frame[12 + skip : 14 + skip] == b"\x08\x00"
        and frame[23 + skip : 24 + skip] == b"\x01"
        and (frame[34 + skip] == kind)
    )


def test_mirrors_a_guest(pair: Lab, sink: Sink) -> None:
    """What the guest sends and gets, as complete frames; also while the daemon is dead, until it is told to stop."""
    host, (a, b, _) = pair.hosts[0], pair.guests
    gateway = run("ip", "netns", "exec", host.namespace, "cat", "/sys/class/net/dtap0/address").strip()
    assert _start(host, "a") == 0
    assert _start(host, "a") == 210
    assert a.ping(b.ipv4)
    sent, received = sink.frame(_is_ping(8)), sink.frame(_is_ping(0))
    assert sent is not None
    assert received is not None
    for frame, macs in ((sent, (gateway, a.mac)), (received, (a.mac, gateway))):
        assert frame[:HEADERS] == _headers(pair, len(frame) - HEADERS)
        assert frame[HEADERS : HEADERS + 12] == mac(macs[0]) + mac(macs[1])
        assert len(frame) - HEADERS == 14 + 84
    sink.datagrams.settimeout(10)
    datagram, sender = sink.datagrams.recvfrom(2000)
    assert sender[:2] == (host.address, FROM)
    assert datagram[12:14] in (b"\x08\x00", b"\x08\x06", b"\x86\xdd")

    with raw_socket(a.namespace, "eth0") as raw:
        question = ethernet(BROADCAST, a.mac, 0x0806, arp(1, a.mac, a.ipv4, "00:00:00:00:00:00", GATEWAY4))
        raw.send(question)
        assert sink.frame(lambda frame: frame == question) is not None
        answer = ethernet(a.mac, gateway, 0x0806, arp(2, gateway, GATEWAY4, a.mac, a.ipv4))
        assert sink.frame(lambda frame: frame == answer) is not None

    host.kill()
    assert a.ping(b.ipv4)
    assert sink.frame(_is_ping(8)) is not None
    host.start()
    status = host.stub.CaptureStatus(pb.CaptureStatusRequest(), timeout=30)
    assert status.is_active
    assert [each.vf_name for each in status.capture_config.interfaces] == [b"a"]
    assert a.ping(b.ipv4)
    assert sink.frame(_is_ping(8)) is not None
    assert _stop(host) == (0, 1)
    assert _stop(host)[0] == 211
    while sink.frame(seconds=0.2) is not None:
        pass
    assert a.ping(b.ipv4)
    assert sink.frame(seconds=0.5) is None
    assert "to_uplink" not in run("tc", "-n", host.namespace, "filter", "show", "dev", "pf0", "egress")


def test_mirrors_an_uplink_that_unwraps_early(lab: Lab) -> None:
    """Tunnelled packets as they came from the wire, though for a TAP guest they are unwrapped in the driver."""
    one, two = lab.hosts
    for host in lab.hosts:
        host.cut_segments()
        host.block_detour()
        host.start()
        host.initialize()
    a = lab.tap_guest(one, 0, "10.0.0.1", "2001:db8::1")
    b = lab.guest(two, 0, "10.0.0.2", "2001:db8::2")
    one.create(a, VNI, "a")
    two.create(b, VNI, "b")
    one.route(VNI, "10.0.0.2/32", b.underlay)
    two.route(VNI, "10.0.0.1/32", a.underlay)
    assert eventually(lambda: a.ping(b.ipv4))
    assert "xdp" in run("ip", "-n", one.namespace, "link", "show", "pf0")
    made = Sink(lab)
    assert _start(one, 0, 1) == 0
    assert a.ping(b.ipv4)
    underlays = {name: IPv6Address(guest.underlay).packed for name, guest in (("a", a), ("b", b))}

    def tunnelled(source: str, destination: str) -> Callable[[bytes], bool]:
        return lambda frame: frame[20] == 4 and frame[22:54] == underlays[source] + underlays[destination]

    out, back = made.frame(tunnelled("a", "b")), made.frame(tunnelled("b", "a"))
    assert out is not None
    assert out[HEADERS + 54 + 20] == 8
    assert back is not None
    assert back[HEADERS + 54 + 20] == 0
    assert back[:HEADERS] == _headers(lab, len(back) - HEADERS)
    assert _stop(one) == (0, 2)
    assert a.ping(b.ipv4)
    a.end_pump()
    made.close()


def test_large_packets_are_cut_to_what_the_uplink_carries(pair: Lab, sink: Sink) -> None:
    """Of a stream in packets of many segments, whose copies would be no frames; the stream itself is whole."""
    host, (a, b, _) = pair.hosts[0], pair.guests
    assert _start(host, "a") == 0
    server = stream_socket(b.namespace)
    server.bind((b.ipv4, 5001))
    server.listen()
    client = stream_socket(a.namespace)
    client.connect((b.ipv4, 5001))
    connection, _ = server.accept()
    client.sendall(b"z" * 400_000)
    received = 0
    while received < 400_000:
        received += len(connection.recv(1 << 17))
    is_stream = lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == 6 and frame[26:30] == bytes((10, 0, 0, 1))  # noqa: E731
    frames = [frame for _ in range(20) if (frame := sink.frame(is_stream, 0.5)) is not None]
    assert frames
    longest = max(frames, key=len)
    assert 1400 < len(longest) <= 1600 + 14
    assert longest[:HEADERS] == _headers(pair, len(longest) - HEADERS)
    assert host.drops()["mirror"] == 0
    for each in (client, connection, server):
        each.close()


def _captured(path: Path) -> list[bytes]:
    """The packets of a pcap file."""
    raw, packets = path.read_bytes(), []
    assert struct.unpack_from("<IHH", raw) == (0xA1B23C4D, 2, 4)
    position = 24
    while position < len(raw):
        seconds, _, kept, length = struct.unpack_from("<IIII", raw, position)
        assert abs(seconds - time.time()) < 60
        assert kept == length
        packets.append(raw[position + 16 : position + 16 + kept])
        position += 16 + kept
    return packets


def test_records_into_a_file_and_a_pipe(pair: Lab, tmp_path: Path) -> None:
    """Of a guest by its interface's id or its device's name, with the daemon alive or dead; one reader at a time."""
    host, (a, b, _) = pair.hosts[0], pair.guests
    program = [sys.executable, "-m", "services.dpservice", "capture", f"--bpf-root={host.directory}/bpf"]
    address = f"--address=unix:{host.directory}/grpc.sock"

    def capture(*options: str, out: int | None = None) -> subprocess.Popen[bytes]:
        started = subprocess.Popen([*program, *options], stdout=out, stderr=subprocess.PIPE)
        eventually(lambda: _records(host) == 3 or started.poll() is not None)
        return started

    file = tmp_path / "a.pcap"
    first = capture("--vf=a", address, f"--write={file}")
    assert a.ping(b.ipv4)
    second = subprocess.run([*program, "--vf=net_tap2", f"--write={tmp_path}/b"], capture_output=True, timeout=30)
    assert second.returncode == 1
    assert b"unavailable" in second.stderr
    first.terminate()
    assert first.wait(10) == 0
    pings = [frame for frame in _captured(file) if _is_ping(8)(frame) or _is_ping(0)(frame)]
    assert [frame[34] for frame in pings] == [8, 0]
    assert all(len(frame) == 14 + 84 for frame in pings)

    host.kill()
    piped = capture("--vf=net_tap2", "--pf=0", "--write=-", out=subprocess.PIPE)
    shown = subprocess.Popen(
        ["tcpdump", "-nlr", "-", "-c", "2", "icmp and host 10.0.0.2"],
        stdin=piped.stdout, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert a.ping(b.ipv4)
    text, _ = shown.communicate(timeout=10)
    assert "10.0.0.1 > 10.0.0.2: ICMP echo request" in text
    piped.terminate()
    piped.wait(10)

    unknown = subprocess.run([*program, "--vf=nobody", "--address=127.0.0.1:9"], capture_output=True, timeout=30)
    assert unknown.returncode == 1
    assert b"--vf: nobody is no guest device" in unknown.stderr


def _records(host: Host) -> int:
    """The directions that are recorded of the first port."""
    pins = Pins(host.directory / "bpf")
    try:
        return Points(pins.map("recorded")).of(0)
    finally:
        pins.close()
