"""What a hostile guest or host tries at the gateway, at quotas and at virtual services; neighbours notice nothing."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address

import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.frames import BROADCAST, arp, dhcp_request, ethernet, icmpv6, ipv4, ipv6, udp, udp6
from tests.integration.dpservice.lab import GATEWAY4, GATEWAY6, Guest, Host, Lab, eventually, run
from tests.integration.dpservice.namespaces import inside, raw_socket

ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
Town = tuple[Host, Guest, Guest, Guest]
SERVICE, SERVICE_AT = "fd00:5::53", ("169.254.1.1", 53)
FLOW_QUOTA = 200
SMALL_TABLE = 1024  # flows, and NAT ports
SESSION_QUOTA = 16128  # a quarter of a service's source ports


@pytest.fixture
def town(lab: Lab) -> Town:
    """With a quota, and a service that nobody serves."""
    return _town(
        lab, "--guest-answers=50", f"--flow-quota={FLOW_QUOTA}", f"--udp-virtsvc=169.254.1.1,53,{SERVICE},5353"
    )


def _town(lab: Lab, *options: str) -> Town:
    """Attacker a and its neighbour c on the first host, which has the options; b on the second."""
    one, two = lab.hosts
    a = lab.guest(one, 0, "10.0.0.1", "2001:db8::1")
    c = lab.guest(one, 1, "10.0.0.3", "2001:db8::3")
    b = lab.guest(two, 0, "10.0.0.2", "2001:db8::2")
    one.start(*options)
    two.start()
    for host in lab.hosts:
        host.initialize()
    one.create(a, VNI, "a")
    one.create(c, VNI, "c")
    two.create(b, VNI, "b")
    one.route(VNI, b.ipv4 + "/32", b.underlay)
    for guest in (a, c):
        two.route(VNI, guest.ipv4 + "/32", guest.underlay)
    return one, a, b, c


def _device_mac(namespace: str, device: str) -> str:
    return run("ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{device}/address").strip()


def _asks(guest: Guest) -> bytes:
    return ethernet(BROADCAST, guest.mac, ARP, arp(1, guest.mac, guest.ipv4, "00:00:00:00:00:00", GATEWAY4))


def test_a_guest_that_floods_its_gateway_harms_itself(town: Town) -> None:
    host, a, _, c = town
    gateway = _device_mac(host.namespace, "dtap1")
    answer = ethernet(c.mac, gateway, ARP, arp(2, gateway, GATEWAY4, c.mac, c.ipv4))
    solicitation = struct.pack("!BBHI", 135, 0, 0, 0) + IPv6Address(GATEWAY6).packed
    request = ipv4("0.0.0.0", "255.255.255.255", 17, udp(68, 67, dhcp_request(1, a.mac, 7)))
    floods = (
        _asks(a),
        ethernet(BROADCAST, a.mac, IPV4, request),
        ethernet("33:33:ff:00:00:01", a.mac, IPV6, icmpv6("2001:db8::1", "ff02::1:ff00:1", solicitation)),
        ethernet("33:33:00:01:00:02", a.mac, IPV6, ipv6(
            "fe80::1:1", "ff02::1:2", 17, udp6("fe80::1:1", "ff02::1:2", 546, 547, b"\x01abc"))),
    )  # fmt: skip
    with raw_socket(a.namespace, "eth0") as attacker, raw_socket(c.namespace, "eth0") as neighbour:
        before = host.drops()["answer_limit"]
        for _ in range(500):
            for frame in floods:
                attacker.send(frame)
        eventually(lambda: host.drops()["answer_limit"] > before + 1500)
        neighbour.settimeout(10)
        neighbour.send(_asks(c))
        while neighbour.recv(2048) != answer:
            pass
        for sender in ("01:00:5e:00:00:01", BROADCAST):
            before = host.drops()["spoofed_mac"]
            neighbour.send(ethernet(BROADCAST, sender, IPV4, request))
            eventually(lambda before=before: host.drops()["spoofed_mac"] == before + 1)  # no answer goes to a group


def test_a_guest_holds_no_more_than_its_flows(town: Town) -> None:
    host, a, b, c = town
    assert a.ping(b.ipv4)
    gateway = _device_mac(host.namespace, "dtap0")
    with raw_socket(a.namespace, "eth0") as attacker:
        for port in range(1, 3 * FLOW_QUOTA):
            attacker.send(ethernet(gateway, a.mac, IPV4, ipv4(a.ipv4, b.ipv4, 17, udp(port, 9, b"scan"))))
    assert host.drops()["flow_quota"] >= FLOW_QUOTA
    assert c.ping(b.ipv4), "the neighbour's flows are its own"


def test_a_device_whose_interface_is_gone_is_not_the_next_interface(lab: Lab) -> None:
    one, two = lab.hosts
    a, c = lab.guest(one, 0, "10.0.0.1", "2001:db8::1"), lab.guest(one, 1, "10.0.0.3", "2001:db8::3")
    b = lab.guest(two, 0, "10.0.0.2", "2001:db8::2")
    for host in lab.hosts:
        host.start()
        host.initialize()
    one.create(a, VNI, "a")
    assert not one.stub.DeleteInterface(pb.DeleteInterfaceRequest(interface_id=b"a"), timeout=30).status.code
    one.create(c, VNI, "c")
    two.create(b, VNI, "b")
    one.route(VNI, b.ipv4 + "/32", b.underlay)
    victim = inside(b.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    victim.bind((b.ipv4, 9))
    victim.settimeout(10)
    for sender, device, text in ((a, "dtap0", b"forged"), (c, "dtap1", b"own")):
        frame = ipv4(c.ipv4, b.ipv4, 17, udp(5000, 9, text))
        with raw_socket(sender.namespace, "eth0") as wire:
            wire.send(ethernet(_device_mac(one.namespace, device), sender.mac, IPV4, frame))
    assert victim.recv(100) == b"own"


@pytest.mark.parametrize(
    ("quota", "most"),
    [
        pytest.param((), SMALL_TABLE // 4, id="a quarter if nobody says otherwise"),
        pytest.param(("--flow-quota=0", "--nat-quota=0"), SMALL_TABLE, id="the whole table"),
    ],
)
def test_what_a_guest_holds_of_the_tables(lab: Lab, quota: tuple[str, ...], most: int) -> None:
    host, a, b, c = _town(lab, f"--flows={SMALL_TABLE}", f"--nat-ports={SMALL_TABLE}", *quota)
    _scan(host, a, b.ipv4)
    assert _entries(host, "flows") // 2 == pytest.approx(most, abs=8)
    assert host.drops()["flow_quota"] > 0
    assert c.ping(b.ipv4) is (most < SMALL_TABLE), "a neighbour has room if the attacker leaves some"


@pytest.mark.parametrize(
    ("quota", "most"),
    [
        pytest.param((), SMALL_TABLE // 4, id="a quarter if nobody says otherwise"),
        pytest.param(("--nat-quota=0",), SMALL_TABLE, id="the whole table"),
    ],
)
def test_what_a_guest_holds_of_nat_ports(lab: Lab, quota: tuple[str, ...], most: int) -> None:
    host, a, b, _ = _town(lab, f"--nat-ports={SMALL_TABLE}", *quota)
    host.route(VNI, "0.0.0.0/0", b.underlay)
    public = pb.IpAddress(ipver=pb.IPV4, address=b"203.0.113.1")
    request = pb.CreateNatRequest(interface_id=b"a", nat_ip=public, min_port=1024, max_port=8192)
    assert not host.stub.CreateNat(request, timeout=30).status.code
    _scan(host, a, "198.51.100.1")
    assert _entries(host, "nat_mappings") == pytest.approx(most, abs=8)
    assert host.drops()["nat_quota"] > 0


def _scan(host: Host, attacker: Guest, target: str) -> None:
    """Begins twice as many conversations as a small table holds."""
    gateway = _device_mac(host.namespace, "dtap0")
    with raw_socket(attacker.namespace, "eth0") as wire:
        for port in range(1, 2 * SMALL_TABLE):
            wire.send(ethernet(gateway, attacker.mac, IPV4, ipv4(attacker.ipv4, target, 17, udp(port, 9, b"scan"))))


def _entries(host: Host, table: str) -> int:
    """Of a pinned map."""
    return len(json.loads(run("bpftool", "-j", "map", "dump", "pinned", str(host.directory / "bpf" / table))))


def test_a_guest_holds_no_more_than_its_share_of_a_service(town: Town) -> None:
    host, a, _, c = town
    gateway = _device_mac(host.namespace, "dtap0")
    lab = host.lab
    run("ip", "-n", lab.fabric, "link", "set", "lo", "up")
    run("ip", "-n", lab.fabric, "address", "add", f"{SERVICE}/128", "dev", "lo", "nodad")
    server = inside(lab.fabric, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    server.bind((SERVICE, 5353))
    with raw_socket(a.namespace, "eth0") as attacker:
        attacker.send(_asks(a))
        before = host.drops()
        spoofed = ipv4("10.0.0.77", SERVICE_AT[0], 17, udp(9, 53, b"spoofed"))
        attacker.send(ethernet(gateway, a.mac, IPV4, spoofed))
        eventually(lambda: host.drops()["spoofed_address"] == before["spoofed_address"] + 1)
        for port in range(1024, 1024 + SESSION_QUOTA + 100):
            attacker.send(ethernet(gateway, a.mac, IPV4, ipv4(a.ipv4, SERVICE_AT[0], 17, udp(port, 53, b""))))
        eventually(lambda: host.drops()["service_quota"] == before["service_quota"] + 100)
    client = inside(c.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client.settimeout(10)
    server.settimeout(0.2)
    with suppress(TimeoutError):
        while server.recv(100) == b"":
            pass  # the attacker's, which would leave no room
    server.settimeout(10)
    client.sendto(b"mine", SERVICE_AT)
    text, asker = server.recvfrom(100)
    assert text == b"mine"
    server.sendto(b"yours", asker)
    assert client.recv(100) == b"yours"

    # The same answer from elsewhere, and to somebody else, is no answer.
    router, uplink = _device_mac(lab.fabric, "h1pf0"), _device_mac(host.namespace, "pf0")
    other = str(IPv6Address(int(IPv6Address(asker[0])) + 1))
    forged = (
        ("fd00:5::66", asker[0], 5353, asker[1]),
        (SERVICE, asker[0], 5354, asker[1]),
        (SERVICE, other, 5353, asker[1]),
        (SERVICE, asker[0], 5353, 65000),
    )
    client.settimeout(0.5)
    with raw_socket(lab.fabric, "h1pf0") as attacker:
        before = host.drops()
        for source, destination, source_port, destination_port in forged:
            datagram = udp6(source, destination, source_port, destination_port, b"forged")
            attacker.send(ethernet(uplink, router, IPV6, ipv6(source, destination, 17, datagram)))
    with pytest.raises(TimeoutError):
        client.recv(100)
    assert host.drops()["service_session"] == before["service_session"] + 1
    for each in (client, server):
        each.close()


def test_a_host_is_no_gateway(town: Town) -> None:
    """Neither router advertisements nor DHCP come out of a tunnel, whoever sends them."""
    host, a, b, _ = town
    lab = host.lab
    router, uplink = _device_mac(lab.fabric, "h1pf0"), _device_mac(host.namespace, "pf0")
    advertisement = icmpv6("fe80::1", a.ipv6, struct.pack("!BBHBBHII", 134, 0, 0, 255, 0xC0, 65535, 0, 0))
    reply = ipv6("fe80::1", a.ipv6, 17, udp6("fe80::1", a.ipv6, 546, 547, b"\x01abc"))
    rows = (
        ("neighbor_discovery", 41, advertisement),
        ("dhcp_from_tunnel", 41, reply),
        ("dhcp_from_tunnel", 4, ipv4(b.ipv4, a.ipv4, 17, udp(68, 67, bytes(300)))),
    )
    with raw_socket(lab.fabric, "h1pf0") as attacker:
        for reason, next_header, inner in rows:
            before = host.drops()
            attacker.send(ethernet(uplink, router, IPV6, ipv6(b.underlay, a.underlay, next_header, inner)))
            eventually(lambda reason=reason, before=before: host.drops()[reason] == before[reason] + 1)
