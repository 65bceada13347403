"""A route gets another next hop while a guest sends: no packet is left without a way."""

from __future__ import annotations

import threading
from ipaddress import IPv6Address
from itertools import cycle

import pytest

from protos.dpservice.v1 import routes_pb2 as pb
from protos.dpservice.v1 import routes_pb2_grpc as pb_grpc
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.frames import ethernet, ipv4, ipv6, udp, udp6
from tests.integration.dpservice.lab import Guest, Lab
from tests.integration.dpservice.namespaces import raw_socket
from tests.integration.dpservice.test_packets import IPV4, IPV6, device_mac, introduce

UDP = 17
CHANGES = 300
PORTS = range(1024, 4096)  # flows that are known look for their way again
HOPS = [pb.NextHop(underlay=IPv6Address(f"fc00:7::{number}").packed, vni=VNI) for number in (1, 2)]


def packet(guest: Guest, gateway: str, target: str, port: int) -> bytes:
    if ":" in target:
        inner = ipv6(guest.ipv6, target, UDP, udp6(guest.ipv6, target, port, 53, b"x"))
        return ethernet(gateway, guest.mac, IPV6, inner)
    return ethernet(gateway, guest.mac, IPV4, ipv4(guest.ipv4, target, UDP, udp(port, 53, b"x")))


@pytest.mark.parametrize(
    ("prefix", "target"),
    [
        pytest.param(bytes((10, 9, 0, 0, 16)), "10.9.0.1", id="IPv4"),
        pytest.param(IPv6Address("2001:db8:9::").packed + bytes([48]), "2001:db8:9::1", id="IPv6"),
    ],
)
def test_packets_while_the_next_hop_changes(shared_pair: Lab, prefix: bytes, target: str) -> None:
    host, guest = shared_pair.hosts[0], shared_pair.guests[0]
    introduce(guest)
    gateway = device_mac(host.namespace, "dtap0")
    version = 6 if ":" in target else 4

    def batch(removed: bytes, *added: pb.NextHop) -> pb.RouteBatch:
        return pb.RouteBatch(
            vni=VNI,
            ip_version=version,
            removed=removed,
            added=prefix if added else b"",
            next_hops=added,
            next_hop_indexes=[0] * len(added),
        )

    def apply(*batches: pb.RouteBatch) -> None:
        answers = list(pb_grpc.RoutesStub(host.channel).ApplyRoutes(iter(batches), timeout=60))
        assert [answer.code for answer in answers] == [0] * len(batches)

    done, began = threading.Event(), threading.Event()

    def send() -> None:
        with raw_socket(guest.namespace, "eth0") as link:
            for port in cycle(PORTS):
                link.send(packet(guest, gateway, target, port))
                began.set()
                if done.is_set():
                    break

    apply(batch(b"", HOPS[0]))
    before = host.drops()["no_route"]
    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert began.wait(10)
        apply(*(batch(prefix, HOPS[number % 2]) for number in range(1, CHANGES)))
    finally:
        done.set()
        sender.join()
    assert host.drops()["no_route"] == before
    apply(batch(prefix))
