"""Rates of interfaces, measured: what arrives of a flood, and what TCP makes of the rate."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.lab import Guest, Host, Lab
from tests.integration.dpservice.namespaces import inside

PORT = 9000
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
SIZE = 1400
HEADERS = 28  # of IPv4 and UDP: rates count IP packets
SECONDS = 3.0
_processes = multiprocessing.get_context("spawn")  # gRPC's threads do not outlive a fork
ATTEMPTS = 3  # a sender that a busy machine lets wait sends less, and more in a moment afterwards


def _limited(host: Host, guest: Guest, identifier: str, total: int, public: int) -> None:
    answer = host.stub.CreateInterface(
        pb.CreateInterfaceRequest(
            interface_id=identifier.encode(),
            device_name=guest.device,
            vni=VNI,
            ipv4_config=pb.IpConfig(primary_address=guest.ipv4.encode()),
            ipv6_config=pb.IpConfig(primary_address=guest.ipv6.encode()),
            metering_parameters=pb.MeteringParams(total_rate=total, public_rate=public),
        ),
        timeout=30,
    )
    assert answer.status.code == 0, answer
    guest.underlay = answer.underlay_route.decode()


@pytest.fixture
def limited(lab: Lab) -> Iterator[tuple[Host, Guest, Guest, Guest]]:
    """Guest a may send 40 Mbit/s in all, 10 by a default route; b is elsewhere, c beside it without limits.

    10.0.0.2 is b by a route of its own and 192.0.2.2 is the same guest by the default route.
    """
    one, two = lab.hosts
    a = lab.guest(one, 0, "10.0.0.1", "2001:db8::1")
    c = lab.guest(one, 1, "10.0.0.3", "2001:db8::3")
    b = lab.guest(two, 0, "10.0.0.2", "2001:db8::2")
    for host in lab.hosts:
        host.start()
        host.initialize()
    _limited(one, a, "a", 40, 10)
    one.create(c, VNI, "c")
    two.create(b, VNI, "b")
    b.run("ip", "address", "add", "192.0.2.2/32", "dev", "lo")
    two.create_prefix("b", "192.0.2.2/32")
    one.route(VNI, "10.0.0.2/32", b.underlay)
    one.route(VNI, "0.0.0.0/0", b.underlay)
    for guest in (a, c):
        two.route(VNI, guest.ipv4 + "/32", guest.underlay)
    return one, a, b, c


def _flood(namespace: str, to: str, seconds: float) -> None:
    """Datagrams as fast as they go; a process of its own, not to take the receiver's time."""
    sender = inside(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender.connect((to, PORT))
    end = time.monotonic() + seconds
    payload = bytes(SIZE)
    while time.monotonic() < end:
        for _ in range(16):
            try:
                sender.send(payload)
            except OSError:
                continue


def _measure_datagrams(guest: Guest, other: Guest, to: str) -> float:
    """Mbit/s that arrive of a flood, from a moment after its beginning on: what may come at once has come."""
    sink = inside(other.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
    sink.bind((to, PORT))
    sink.settimeout(5)
    flood = _processes.Process(target=_flood, args=(guest.namespace, to, SECONDS + 1.5))
    flood.start()
    sink.recv(2048)
    settled = time.monotonic() + 0.5
    while time.monotonic() < settled:
        sink.recv(2048)
    begun, count = time.monotonic(), 0
    while (now := time.monotonic()) < begun + SECONDS:
        sink.recv(2048)
        count += 1
    flood.join()
    sink.close()
    return count * (SIZE + HEADERS) * 8 / (now - begun) / 1e6


def _measure_stream(guest: Guest, other: Guest, to: str) -> float:
    """Mbit/s of payload that a TCP connection carries, likewise."""
    server = inside(other.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    server.bind((to, PORT))
    server.listen()
    client = inside(guest.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    client.settimeout(10)
    client.connect((to, PORT))
    connection, _ = server.accept()
    connection.settimeout(10)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            client.sendall(bytes(1 << 16))
        client.close()

    writer = threading.Thread(target=write)
    writer.start()
    settled = time.monotonic() + 0.5
    while time.monotonic() < settled:
        connection.recv(1 << 16)
    begun, count = time.monotonic(), 0
    while (now := time.monotonic()) < begun + SECONDS:
        count += len(connection.recv(1 << 16))
    stop.set()
    while connection.recv(1 << 20):
        pass
    writer.join()
    for each in (connection, server):
        each.close()
    return count * 8 / (now - begun) / 1e6


def test_rates(limited: tuple[Host, Guest, Guest, Guest]) -> None:
    """Datagrams arrive at the rate, 5 % more or less; TCP makes at least 90 % of it."""
    host, a, b, c = limited
    for name, measure, to, address, least, most in (
        ("total, datagrams", _measure_datagrams, b, "10.0.0.2", 38, 42),
        ("public, datagrams", _measure_datagrams, b, "192.0.2.2", 9.5, 10.5),
        ("total, TCP", _measure_stream, b, "10.0.0.2", 36, 42),
        ("public, TCP", _measure_stream, b, "192.0.2.2", 9, 10.5),
        ("total, TCP on the same host", _measure_stream, c, "10.0.0.3", 36, 42),
    ):
        rates: list[float] = []
        while not rates or not least <= rates[-1] <= most:
            assert len(rates) < ATTEMPTS, f"{name}: {rates} Mbit/s"
            rates.append(measure(a, to, address))
    assert host.drops()["metered"] > 0
    before = host.drops()["metered"]
    free = any(_measure_stream(c, b, "10.0.0.2") > 200 for _ in range(ATTEMPTS))
    assert free, "who has no rate is not held to one"
    assert host.drops()["metered"] == before
