"""Virtual services: guests reach IPv6 services of the underlay as IPv4 addresses, by UDP and TCP, with real sockets."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from tests.integration.dpservice.lab import Guest, Host, Lab, eventually, run
from tests.integration.dpservice.namespaces import inside, raw_socket

VNI = 100
SERVICE = "fd00:5::53"
UDP_AT, TCP_AT, OTHER_AT = ("169.254.1.1", 53), ("169.254.1.2", 80), ("169.254.1.3", 53)
OPTIONS = (
    f"--udp-virtsvc=169.254.1.1,53,{SERVICE},5353",
    f"--udp-virtsvc=169.254.1.3,53,{SERVICE},5454",
    f"--tcp-virtsvc=169.254.1.2,80,{SERVICE},8080",
)
FIRST_PORT = 1025  # of a service's source ports, as the original gives them out
SO_NO_CHECK = 11


class Echo:
    """A service in the fabric: answers every datagram and remembers who asked; echoes streams."""

    def __init__(self, lab: Lab) -> None:
        run("ip", "-n", lab.fabric, "link", "set", "lo", "up")
        run("ip", "-n", lab.fabric, "address", "add", f"{SERVICE}/128", "dev", "lo", "nodad")
        self.askers: list[tuple[str, int]] = []
        self.datagrams = [self._bind(lab, socket.SOCK_DGRAM, port) for port in (5353, 5454)]
        self.streams = self._bind(lab, socket.SOCK_STREAM, 8080)
        self.streams.listen()
        for each in self.datagrams:
            threading.Thread(target=self._answer, args=(each,), daemon=True).start()
        threading.Thread(target=self._accept, daemon=True).start()

    @staticmethod
    def _bind(lab: Lab, kind: int, port: int) -> socket.socket:
        made = inside(lab.fabric, lambda: socket.socket(socket.AF_INET6, kind))
        made.bind((SERVICE, port))
        return made

    def _answer(self, server: socket.socket) -> None:
        while True:
            try:
                text, asker = server.recvfrom(1 << 16)
            except OSError:
                return
            self.askers.append(asker[:2])
            server.sendto(text.upper(), asker)

    def _accept(self) -> None:
        while True:
            try:
                connection, asker = self.streams.accept()
            except OSError:
                return
            self.askers.append(asker[:2])
            with connection:
                while text := connection.recv(1 << 16):
                    connection.sendall(text.upper())

    def close(self) -> None:
        for each in (*self.datagrams, self.streams):
            each.close()


@pytest.fixture
def served(lab: Lab) -> Iterator[tuple[Host, Guest, Echo]]:
    """The first host with two services and a guest."""
    host = lab.hosts[0]
    echo = Echo(lab)
    guest = lab.guest(host, 0, "10.0.0.1", "2001:db8::1")
    host.start(*OPTIONS)
    host.initialize()
    host.create(guest, VNI, "a")
    eventually(host.has_uplink)
    yield host, guest, echo
    echo.close()


def _client(guest: Guest, kind: int = socket.SOCK_DGRAM, port: int = 0) -> socket.socket:
    made = inside(guest.namespace, lambda: socket.socket(socket.AF_INET, kind))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((guest.ipv4, port))
    made.settimeout(3)
    return made


def _ask(client: socket.socket, at: tuple[str, int], text: bytes) -> bytes | None:
    client.sendto(text, at)
    try:
        answer, sender = client.recvfrom(1 << 16)
    except TimeoutError:
        return None
    assert sender == at, "the guest sees the service that it asked"
    return answer


def _underlay(host: Host, index: int) -> str:
    prefix = IPv6Address(host.address).packed[:8]
    return str(IPv6Address(prefix + bytes((0xD0, 0xFF, 0x40, 0)) + index.to_bytes(4, "little")))


def test_datagrams(served: tuple[Host, Guest, Echo]) -> None:
    """Each of a guest's ports gets a source port in ascending order and keeps it, also over a restart."""
    host, guest, echo = served
    clients = [_client(guest) for _ in range(3)]
    for index, client in enumerate(clients):
        assert _ask(client, UDP_AT, b"who is it") == b"WHO IS IT"
        assert echo.askers[-1] == (_underlay(host, 0), FIRST_PORT + index)
    assert _ask(clients[0], OTHER_AT, b"another") == b"ANOTHER"
    assert echo.askers[-1] == (_underlay(host, 1), FIRST_PORT)
    assert _ask(clients[1], UDP_AT, b"x" * 1400) == b"X" * 1400
    assert echo.askers[-1] == (_underlay(host, 0), FIRST_PORT + 1)

    clients[2].setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    for length in (1, 2, 511, 512, 513, 1400):
        assert _ask(clients[2], UDP_AT, b"y" * length) == b"Y" * length, f"{length} bytes without a checksum"

    host.kill()
    assert _ask(clients[0], UDP_AT, b"alone") == b"ALONE"
    host.start(*OPTIONS)
    assert _ask(clients[1], UDP_AT, b"again") == b"AGAIN"
    assert echo.askers[-1] == (_underlay(host, 0), FIRST_PORT + 1)
    for client in clients:
        client.close()


def test_streams(served: tuple[Host, Guest, Echo]) -> None:
    """A megabyte there and back, in large packets."""
    host, guest, echo = served
    client = _client(guest, socket.SOCK_STREAM)
    client.connect(TCP_AT)
    sent = bytes(range(97, 123)) * 40_000
    writer = threading.Thread(target=client.sendall, args=(sent,))
    writer.start()
    received = bytearray()
    while len(received) < len(sent):
        piece = client.recv(1 << 16)
        assert piece
        received += piece
    writer.join()
    assert bytes(received) == sent.upper()
    assert echo.askers == [(_underlay(host, 2), FIRST_PORT)]
    client.close()


def test_refusals(served: tuple[Host, Guest, Echo]) -> None:
    """What nobody asked for, what a service can't carry, and a session whose interface is gone."""
    host, guest, echo = served
    asker = _client(guest, port=4000)
    assert _ask(asker, UDP_AT, b"hello") == b"HELLO"
    underlay = _underlay(host, 0)

    before = host.drops()["service_session"]
    for port in (1023, FIRST_PORT + 1, 65535):
        echo.datagrams[0].sendto(b"unasked", (underlay, port))
    eventually(lambda: host.drops()["service_session"] == before + 3)
    echo.datagrams[1].sendto(b"of another service", (underlay, FIRST_PORT))
    asker.settimeout(0.3)
    with pytest.raises(TimeoutError):
        asker.recv(100)

    before = host.drops()["service"]
    asker.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01\x01\x01\x00")
    assert _ask(asker, UDP_AT, b"options") is None
    assert host.drops()["service"] == before + 1
    asker.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")
    assert _ask(asker, UDP_AT, b"in fragments" * 400) is None
    assert host.drops()["service"] > before + 1

    # The port of a tenant that left must not bring its answers to the next one.
    assert host.stub.DeleteInterface(pb.DeleteInterfaceRequest(interface_id=b"a"), timeout=30).status.code == 0
    host.create(guest, VNI + 1, "another")
    before = host.drops()["service_session"]
    echo.datagrams[0].sendto(b"late", (underlay, FIRST_PORT))
    eventually(lambda: host.drops()["service_session"] == before + 1)
    assert _ask(asker, UDP_AT, b"anew") == b"ANEW"
    assert echo.askers[-1] == (underlay, FIRST_PORT + 1)
    asker.close()


def test_uplinks(lab: Lab) -> None:
    """A session prefers the uplink that the original's hash of port, address and source port gives it."""
    host = lab.hosts[0]
    guest = lab.guest(host, 0, "10.100.1.1", "2001:db8::1")
    host.start(*OPTIONS, "--wcmp=50")
    host.initialize()
    host.create(guest, VNI, "a")
    for name, source_ports in (
        ("h1pf0", (12345, 12346, 12347, 12349, 12350)),
        ("h1pf1", (12348, 12351, 12354, 12355, 12357)),
    ):
        with raw_socket(lab.fabric, name) as wire:
            for port in source_ports:
                client = _client(guest, port=port)
                client.sendto(b"which way %d" % port, UDP_AT)
                client.close()
                while (frame := wire.recv(2048))[62:] != b"which way %d" % port:
                    pass
                assert frame[22:38] == IPv6Address(_underlay(host, 0)).packed
                assert frame[38:54] == IPv6Address(SERVICE).packed
                assert frame[14:22] == struct.pack("!IHBB", 6 << 28, len(frame) - 54, 17, 64)
