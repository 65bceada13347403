"""What the server's segments look like on a wire with an ordinary MTU: none ends inside a frame."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from services.metalbond import wire
from services.metalbond.routes import NextHop, Route, Vni
from services.metalbond.wire import Framer
from tests.integration.metalbond.conftest import INTERVAL, RawPeer
from tests.support.eventually import eventually

PREFIX = "ft-mb-"
VNI = Vni(100)
ROUTES = 10_000
ETHERNET, IPV6 = 14, 40


@dataclass
class Wire:
    """A network namespace behind a veth pair; the server's end is inside."""

    namespace: str
    link: str
    server: str
    client: str


@pytest.fixture
def veth() -> Iterator[Wire]:
    _sweep()
    token = f"{os.getpid()}-{secrets.token_hex(2)}"
    name, link, inner = PREFIX + token, f"ftm{token}"[:14], f"fti{token}"[:14]
    net = f"fd{secrets.token_hex(1)}:{secrets.token_hex(2)}"
    found = Wire(name, link, f"{net}::1", f"{net}::2")
    for command in (
        f"ip netns add {name}",
        f"ip link add {link} mtu 1500 type veth peer name {inner} netns {name}",
        f"ip address add {found.client}/64 dev {link} nodad",
        f"ip -n {name} address add {found.server}/64 dev {inner} nodad",
        f"ip -n {name} link set lo up",
        f"ip -n {name} link set {inner} up",
        f"ip link set {link} up",
    ):
        subprocess.run(command.split(), check=True)
    yield found
    subprocess.run(["ip", "netns", "delete", name], check=True)


async def test_no_segment_ends_inside_a_frame(veth: Wire, tmp_path: Path) -> None:
    command = ["nsenter", f"--net=/run/netns/{veth.namespace}", sys.executable, "-m", "services.metalbond", "server"]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--listen",
        f"[{veth.server}]:4711",
        "--grpc-listen",
        "",
        f"--keepalive={INTERVAL}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        source, sink = await eventually(lambda: _connect(veth)), await _connect(veth)
        assert sink is not None
        await source.handshake()
        await sink.handshake()
        with _sniffer(veth.link) as sniffer:
            source.send(b"".join(_frame(number) for number in range(ROUTES)))
            sink.send(wire.Subscribe(VNI))
            await sink.receive(ROUTES, within=60)
            payloads = _payloads(sniffer, sink.writer.get_extra_info("sockname")[1])
        for peer in (source, sink):
            peer.writer.close()
    finally:
        process.terminate()
        await process.wait()
    assert len(payloads) > ROUTES * 37 // 1500
    for payload in payloads:
        framer = Framer()
        assert list(framer.feed(payload))
        assert not list(framer.feed(b"")), "a whole number of frames"
        assert sum(len(body) + wire.HEADER_SIZE for _, body in Framer().feed(payload)) == len(payload)


async def _connect(veth: Wire) -> RawPeer | None:
    try:
        return RawPeer(*await asyncio.open_connection(veth.server, 4711))
    except OSError:
        return None


def _frame(number: int) -> bytes:
    return wire.encode_route(Route(VNI, ip_network((number << 8, 24)), NextHop(ip_address("2001:db8::1"))))


def _sniffer(link: str) -> socket.socket:
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(0x86DD))
    sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024 * 1024)
    sniffer.bind((link, 0x86DD))
    sniffer.setblocking(False)
    return sniffer


def _payloads(sniffer: socket.socket, port: int) -> list[bytes]:
    """TCP payloads of captured segments from the server to the port."""
    payloads: list[bytes] = []
    while True:
        try:
            packet = sniffer.recv(65536)
        except BlockingIOError:
            return payloads
        segment = packet[ETHERNET + IPV6 :]
        if packet[ETHERNET + 6] != socket.IPPROTO_TCP or struct.unpack_from(">HH", segment) != (4711, port):
            continue
        length = struct.unpack_from(">H", packet, ETHERNET + 4)[0]
        payload = segment[(segment[12] >> 4) * 4 : length]
        if payload:
            payloads.append(payload)


def _sweep() -> None:
    """Removes namespaces of runs whose process is gone."""
    for path in Path("/run/netns").glob(f"{PREFIX}*"):
        if not Path("/proc", path.name.removeprefix(PREFIX).partition("-")[0]).exists():
            subprocess.run(["ip", "netns", "delete", path.name], check=True)
