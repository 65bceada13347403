"""Packets between guests through real daemons and real kernels."""

from __future__ import annotations

import socket
import struct
import threading
import time
from ipaddress import IPv6Address

import pytest

from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.frames import ethernet, ipv4, ipv6, mac, udp
from tests.integration.dpservice.lab import Guest, Host, Lab, eventually, run
from tests.integration.dpservice.namespaces import raw_socket, stream_socket

IPV4, IPV6 = 0x0800, 0x86DD
PORT = 5000


def introduce(*guests: Guest) -> None:
    """A guest's MAC is known once it spoke: let each of them ask for its gateway."""
    for guest in guests:
        guest.ping("10.99.99.99", "-W", "0.1")


def device_mac(namespace: str, device: str) -> str:
    return run("ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{device}/address").strip()


def frames_on(listener: socket.socket, protocol: int, count: int) -> list[bytes]:
    """Up to `count` frames whose outer next header is `protocol`, of those that the socket kept."""
    found: list[bytes] = []
    while len(found) < count:
        try:
            frame = listener.recv(65536)
        except TimeoutError:
            break
        if frame[12:14] == b"\x86\xdd" and frame[20] == protocol:
            found.append(frame)
    return found


def test_guests_reach_each_other(shared_pair: Lab) -> None:
    a, b, c = shared_pair.guests[:3]
    introduce(a, b, c)
    for source, target in ((a, b), (b, a), (a, c), (c, b)):
        assert source.ping(target.ipv4)
        assert source.ping(target.ipv6)
    assert a.ping(b.ipv4, "-s", "4000"), "fragments"
    assert a.ping(b.ipv6, "-s", "4000"), "IPv6 fragments"


@pytest.mark.parametrize(("family", "next_header"), [pytest.param(4, 4, id="IPv4"), pytest.param(6, 41, id="IPv6")])
def test_outer_header(shared_pair: Lab, family: int, next_header: int) -> None:
    a, b = shared_pair.guests[:2]
    introduce(a, b)
    listener = raw_socket(shared_pair.fabric, "h1pf0")
    try:
        assert a.ping(b.ipv4 if family == 4 else b.ipv6, "-t", "33", "-s", "56")
        frame = frames_on(listener, next_header, 1)[0]
    finally:
        listener.close()
    inner = frame[54:]
    assert frame[:12] == mac(device_mac(shared_pair.fabric, "h1pf0")) + mac(
        device_mac(shared_pair.hosts[0].namespace, "pf0")
    )
    assert frame[14:18] == b"\x60\0\0\0", "version, no traffic class, no flow label"
    assert struct.unpack("!H", frame[18:20])[0] == len(inner)
    assert frame[21] == 64
    assert (frame[22:38], frame[38:54]) == (IPv6Address(a.underlay).packed, IPv6Address(b.underlay).packed)
    assert inner[8 if family == 4 else 7] == 33, "the inner TTL is the guest's"


def transfer(source: Guest, target: Guest, address: str, size: int) -> float:
    """Sends `size` bytes over TCP; Gbit/s."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server, client = stream_socket(target.namespace, family), stream_socket(source.namespace, family)
    with server, client:
        server.bind((address, PORT))
        server.listen()
        client.connect((address, PORT))
        accepted, _ = server.accept()
        received = 0

        def receive() -> None:
            nonlocal received
            while data := accepted.recv(1 << 20):
                received += len(data)

        with accepted:
            reader = threading.Thread(target=receive)
            started = time.monotonic()
            reader.start()
            block = bytes(1 << 20)
            for _ in range(size >> 20):
                client.sendall(block)
            client.shutdown(socket.SHUT_WR)
            reader.join(60)
            assert received == size
            return size * 8 / (time.monotonic() - started) / 1e9


@pytest.mark.parametrize("family", [pytest.param(4, id="IPv4"), pytest.param(6, id="IPv6")])
def test_tcp_between_veth_guests(shared_pair: Lab, family: int, record_property: pytest.RecordProperty) -> None:
    a, b, c = shared_pair.guests[:3]
    introduce(a, b, c)
    for target in (b, c):
        speed = transfer(a, target, target.ipv4 if family == 4 else target.ipv6, 64 << 20)
        record_property(f"gbit_{target.device}", round(speed, 2))


@pytest.mark.parametrize(
    ("whole", "detour", "segments"),
    [
        pytest.param(False, True, 10, id="as on a wire"),
        pytest.param(False, False, 3, id="as on a wire, unwrapped in the driver"),
        pytest.param(True, True, 10, id="whole packets"),
    ],
)
def test_tcp_into_a_tap_arrives_merged(lab: Lab, whole: bool, detour: bool, segments: int) -> None:
    """Whole GSO packets leave one TAP, and the other gets merged packets, not one write per segment."""
    guests = []
    for host, last in zip(lab.hosts, (1, 2), strict=True):
        if not whole:
            host.cut_segments()
        if not detour:
            host.block_detour()
        host.start()
        guests.append(lab.tap_guest(host, 0, f"10.0.0.{last}", f"2001:db8::{last}"))
    a, b = guests
    for host, guest in zip(lab.hosts, guests, strict=True):
        host.initialize()
        host.create(guest, VNI, "vm")
        assert has_xdp(host, "pf0") == has_xdp(host, "pf1") == (not detour)
    for host, other in ((lab.hosts[0], b), (lab.hosts[1], a)):
        host.route(VNI, f"{other.ipv4}/32", other.underlay)
        host.route(VNI, f"{other.ipv6}/128", other.underlay)
    eventually(lambda: b.ping(a.ipv4) | a.ping(b.ipv4))
    eventually(lambda: a.ping(b.ipv6))
    listener = raw_socket(lab.fabric, "h2pf0")
    size = 32 << 20
    try:
        transfer(a, b, b.ipv4, size)
        transfer(a, b, b.ipv6, size)
        longest = max(len(frame) for frame in frames_on(listener, 4, 200))
    finally:
        listener.close()
    frames, merged = b.end_pump()
    if not whole:
        assert longest == 14 + 40 + 1500, "segments have the guest's full MSS"
    assert merged > 100
    assert frames < 2 * size / 1460 / segments, f"at least {segments} segments a write"


def test_same_addresses_in_two_vnis_stay_apart(shared_pair: Lab) -> None:
    a, b = shared_pair.guests[:2]
    one, two = shared_pair.hosts
    stranger = two.create(shared_pair.guest(two, 1, b.ipv4, b.ipv6), 200, "stranger")
    alone = one.create(shared_pair.guest(one, 2, "10.0.0.9", "2001:db8::9"), 200, "alone")
    one.route(200, f"{stranger.ipv4}/32", stranger.underlay)
    two.route(200, f"{alone.ipv4}/32", alone.underlay)
    introduce(a, b, stranger, alone)
    listener = raw_socket(stranger.namespace, "eth0")
    try:
        assert a.ping(b.ipv4)
        assert not alone.ping(a.ipv4)
        assert alone.ping(stranger.ipv4)
        received = []
        listener.settimeout(0.2)
        try:
            while True:
                received.append(listener.recv(2048))
        except TimeoutError:
            pass
    finally:
        listener.close()
    assert any(socket.inet_aton(alone.ipv4) == frame[26:30] for frame in received)
    assert not any(socket.inet_aton(a.ipv4) == frame[26:30] for frame in received)


def test_alias_prefix(shared_pair: Lab) -> None:
    """Traffic to a prefix reaches its guest from another host, and the guest may answer from it."""
    a, b = shared_pair.guests[:2]
    underlay = shared_pair.hosts[1].create_prefix("b", "10.1.0.0/24")
    shared_pair.hosts[0].route(VNI, "10.1.0.0/24", underlay)
    b.run("ip", "address", "add", "10.1.0.7/32", "dev", "lo")
    introduce(a, b)
    assert a.ping("10.1.0.7")
    assert not a.ping("10.1.1.7", "-W", "0.3")


def test_hostile_guest(shared_pair: Lab) -> None:
    """Each wrong frame is dropped for its reason, and the victim hears nothing of it."""
    a, b = shared_pair.guests[:2]
    introduce(a, b)
    assert a.ping(b.ipv4)
    gateway, payload = device_mac(shared_pair.hosts[0].namespace, "dtap0"), udp(9, 9, b"hostile!")

    def of(source: str, destination: str, sender: str = a.mac, protocol: int = 17) -> bytes:
        if ":" in source:
            return ethernet(gateway, sender, IPV6, ipv6(source, destination, protocol, payload))
        return ethernet(gateway, sender, IPV4, ipv4(source, destination, protocol, payload))

    rows = [
        ("spoofed_address", of("10.0.0.77", b.ipv4)),
        ("spoofed_address", of(b.ipv4, b.ipv4)),
        ("spoofed_address", of("2001:db8::77", b.ipv6)),
        ("spoofed_mac", of(a.ipv4, b.ipv4, "52:54:00:00:00:99")),
        ("spoofed_mac", of(a.ipv6, b.ipv6, "52:54:00:00:00:99")),
        ("not_unicast", of(a.ipv4, "224.0.0.251")),
        ("not_unicast", of(a.ipv4, "255.255.255.255")),
        ("not_unicast", of(a.ipv6, "ff02::fb")),
        ("not_unicast", of(a.ipv6, "fe80::2")),
        ("no_route", of(a.ipv4, "10.77.0.1")),
        ("protocol", of(a.ipv4, b.ipv4, protocol=132)),
        ("protocol", of(a.ipv6, b.ipv6, protocol=0)),
        ("truncated", of(a.ipv4, b.ipv4)[:40]),
        ("malformed", ethernet(gateway, a.mac, IPV4, b"\x44" + bytes(40))),
        ("not_ip", ethernet(gateway, a.mac, 0x88B5, bytes(46))),
        ("dhcp", ethernet(gateway, a.mac, IPV6, ipv6(a.ipv6, b.ipv6, 17, udp(546, 547, bytes(8))))),
        ("dhcp", ethernet(gateway, a.mac, IPV4, ipv4(a.ipv4, b.ipv4, 17, udp(68, 67, bytes(300))))),
    ]
    attacker, victim = raw_socket(a.namespace, "eth0"), raw_socket(b.namespace, "eth0")
    try:
        for reason, frame in rows:
            before = shared_pair.hosts[0].drops()
            attacker.send(frame)
            eventually(lambda reason=reason, before=before: shared_pair.hosts[0].drops()[reason] > before[reason])
        attacker.send(of(a.ipv4, b.ipv4))  # the honest one passes
        victim.settimeout(10)
        heard = victim.recv(2048)
        while b"hostile!" not in heard:
            heard = victim.recv(2048)
        assert heard[26:30] == socket.inet_aton(a.ipv4)
    finally:
        attacker.close()
        victim.close()


def test_hostile_host(shared_pair: Lab) -> None:
    """What comes from the fabric but not from a hypervisor, or to nobody, is dropped and counted."""
    assert not has_xdp(shared_pair.hosts[1], "pf0"), "veth guests need none"
    expect_drops_of_hostile_host(shared_pair)


def has_xdp(host: Host, uplink: str) -> bool:
    return "xdp" in run("ip", "-n", host.namespace, "link", "show", uplink)


def expect_drops_of_hostile_host(pair: Lab) -> None:
    a, b = pair.guests[:2]
    introduce(a, b)
    assert a.ping(b.ipv4)
    two = pair.hosts[1]
    router, uplink = device_mac(pair.fabric, "h2pf0"), device_mac(two.namespace, "pf0")
    inner = ipv4(a.ipv4, b.ipv4, 17, udp(9, 9, b"hostile!"))

    def of(source: str, destination: str, next_header: int, payload: bytes) -> bytes:
        return ethernet(uplink, router, IPV6, ipv6(source, destination, next_header, payload))

    rows = [
        ("untrusted_source", of("2001:db8:bad::1", b.underlay, 4, inner)),
        ("unknown_underlay", of(a.underlay, "fc00:1:0:2:d000::9", 4, inner)),
        ("malformed", of(a.underlay, b.underlay, 41, inner)),
        ("dhcp_from_tunnel", of(a.underlay, b.underlay, 4, ipv4(a.ipv4, b.ipv4, 17, udp(68, 67, bytes(60))))),
        ("protocol", of(a.underlay, b.underlay, 4, ipv4(a.ipv4, b.ipv4, 47, bytes(8)))),
        ("truncated", of(a.underlay, b.underlay, 4, inner[:24])),
    ]
    attacker, victim = raw_socket(pair.fabric, "h2pf0"), raw_socket(b.namespace, "eth0")
    try:
        for reason, frame in rows:
            before = two.drops()
            attacker.send(frame)
            eventually(lambda reason=reason, before=before: two.drops()[reason] > before[reason])
        attacker.send(of(a.underlay, b.underlay, 4, inner))
        victim.settimeout(10)
        heard = victim.recv(2048)
        while b"hostile!" not in heard:
            heard = victim.recv(2048)
        assert heard[26:30] == socket.inet_aton(a.ipv4)
    finally:
        attacker.close()
        victim.close()


def test_compat_does_not_check_sources(lab: Lab) -> None:
    one = lab.hosts[0]
    a = lab.guest(one, 0, "10.0.0.1", "2001:db8::1")
    c = lab.guest(one, 1, "10.0.0.3", "2001:db8::3")
    one.start("--compat")
    one.initialize()
    one.create(a, VNI, "a")
    one.create(c, VNI, "c")
    introduce(a, c)
    attacker, victim = raw_socket(a.namespace, "eth0"), raw_socket(c.namespace, "eth0")
    try:
        gateway = device_mac(one.namespace, "dtap0")
        packet = ipv4("10.0.0.77", c.ipv4, 17, udp(9, 9, b"hostile!"))
        attacker.send(ethernet(gateway, "52:54:00:00:00:99", IPV4, packet))
        while b"hostile!" not in victim.recv(2048):
            continue
    finally:
        attacker.close()
        victim.close()


def test_second_uplink_takes_over(shared_pair: Lab) -> None:
    a, b = shared_pair.guests[:2]
    introduce(a, b)
    assert a.ping(b.ipv4)
    for number in (1, 2):
        run("ip", "-n", shared_pair.fabric, "link", "set", f"h{number}pf0", "down")
    eventually(lambda: a.ping(b.ipv4, "-W", "0.2"))
    for number in (1, 2):
        run("ip", "-n", shared_pair.fabric, "link", "set", f"h{number}pf0", "up")
    eventually(lambda: a.ping(b.ipv4, "-W", "0.2"))


def serve_tap_guests(pair: Lab) -> None:
    for host in pair.hosts:
        host.create(Guest("", "net_tap5", "", f"10.0.0.7{host.number}", f"2001:db8::7{host.number}"), VNI, "vm")


def restart_without_detour(pair: Lab) -> None:
    for host in pair.hosts:
        host.kill()
        host.block_detour()
        host.start()


def test_uplinks_with_xdp(pair: Lab) -> None:
    """Without a detour the first TAP guest makes the uplinks unwrap in the driver, for veth guests as well."""
    a, b = pair.guests[:2]
    restart_without_detour(pair)
    serve_tap_guests(pair)
    for host in pair.hosts:
        assert has_xdp(host, "pf0")
        assert has_xdp(host, "pf1")
    introduce(a, b)
    for address in (b.ipv4, b.ipv6):
        assert a.ping(address)
        transfer(a, b, address, 16 << 20)
    expect_drops_of_hostile_host(pair)


def test_veth_guests_beside_those_with_taps(pair: Lab) -> None:
    """The detour is not for them."""
    a, b = pair.guests[:2]
    serve_tap_guests(pair)
    introduce(a, b)
    for address in (b.ipv4, b.ipv6):
        transfer(a, b, address, 16 << 20)
    for host in pair.hosts:
        assert not has_xdp(host, "pf0")
        assert "TX:" in (shown := run("ip", "-n", host.namespace, "-s", "link", "show", "dpdetour"))
        assert int(shown.split("TX:")[1].split("\n")[1].split()[1]) < 100, "what the kernel says for itself"


def test_tap_guests_behind_uplinks_without_xdp(pair: Lab) -> None:
    """As with drivers that have none, on a kernel without a detour: the tc program takes the outer header off."""
    a, b = pair.guests[:2]
    restart_without_detour(pair)
    serve_tap_guests(pair)
    for host in pair.hosts:
        for uplink in ("pf0", "pf1"):
            run("ip", "-n", host.namespace, "link", "set", "dev", uplink, "xdpdrv", "off")
    introduce(a, b)
    for address in (b.ipv4, b.ipv6):
        assert a.ping(address)
        transfer(a, b, address, 16 << 20)


def test_too_big_for_the_tunnel(pair: Lab) -> None:
    """Guests are told what fits, and their connections get through."""
    a, b = pair.guests[:2]
    introduce(a, b)
    for host in pair.hosts:
        for index in (0, 1):
            run("ip", "-n", host.namespace, "link", "set", f"pf{index}", "mtu", "1500")
            run("ip", "-n", pair.fabric, "link", "set", f"h{host.number}pf{index}", "mtu", "1500")
    for address in (b.ipv4, b.ipv6):
        said = eventually(lambda address=address: too_big(a.run(*LONG_PING, address, check=False)))
        assert "1460" in said
        transfer(a, b, address, 16 << 20)


LONG_PING = ("ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1452")


def too_big(output: str) -> str:
    return output if "mtu" in output else ""
