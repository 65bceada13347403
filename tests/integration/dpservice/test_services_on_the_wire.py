"""Services through real daemons, kernels and sockets that test runs of the programs can't show whole."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.lab import Guest, Host, Lab, eventually
from tests.integration.dpservice.namespaces import raw_socket, stream_socket
from tests.integration.dpservice.test_packets import frames_on, introduce

NO_DROP_SUPPORT = 441
PORT = 8000
TRIES = 40
BALANCED = {4: "203.0.113.5", 6: "2001:db8:5::1"}


@contextmanager
def serving(guest: Guest, address: str) -> Iterator[None]:
    """The guest owns the address, and tells its name to whoever connects."""
    length = 128 if ":" in address else 32
    guest.run("ip", "address", "add", f"{address}/{length}", "dev", "lo", "nodad")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with stream_socket(guest.namespace, family) as server:
        server.bind((address, PORT))
        server.listen(TRIES)
        ended = threading.Event()

        def answer() -> None:
            server.settimeout(0.2)
            while not ended.is_set():
                try:
                    accepted, _ = server.accept()
                except TimeoutError:
                    continue
                with accepted:
                    accepted.sendall(guest.namespace.encode())

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def called(client: Guest, address: str) -> str:
    """Who answered a connection."""
    with stream_socket(client.namespace, socket.AF_INET6 if ":" in address else socket.AF_INET) as mouth:
        mouth.connect((address, PORT))
        return mouth.recv(100).decode()


def balance(host: Host, others: list[tuple[Host, str]], address: str) -> str:
    """A balancer on `host` and its targets, the interfaces of `others`; its underlay address."""
    version, length = (pb.IPV6, 128) if ":" in address else (pb.IPV4, 32)
    ip = pb.IpAddress(ipver=version, address=address.encode())
    ports = [pb.LbPort(port=PORT, protocol=pb.TCP)]
    made = host.stub.CreateLoadBalancer(
        pb.CreateLoadBalancerRequest(loadbalancer_id=b"lb", loadbalanced_ip=ip, vni=VNI, loadbalanced_ports=ports),
        timeout=5,
    )
    assert made.status.code == 0, made
    for other, interface in others:
        request = pb.CreateLoadBalancerPrefixRequest(
            interface_id=interface.encode(), prefix=pb.Prefix(ip=ip, length=length)
        )
        target = other.stub.CreateLoadBalancerPrefix(request, timeout=5).underlay_route
        answer = host.stub.CreateLoadBalancerTarget(
            pb.CreateLoadBalancerTargetRequest(
                loadbalancer_id=b"lb", target_ip=pb.IpAddress(ipver=pb.IPV6, address=target)
            ),
            timeout=5,
        )
        assert answer.status.code == 0, answer
    return str(made.underlay_route.decode())


@pytest.mark.parametrize("family", [pytest.param(4, id="IPv4"), pytest.param(6, id="IPv6")])
def test_a_guest_calls_a_balancer_of_its_own_host(pair: Lab, family: int) -> None:
    """Its packets leave by the uplink, come back from the fabric, and go on to targets here and elsewhere."""
    one, two = pair.hosts
    a, b, c = pair.guests[:3]
    address = BALANCED[family]
    underlay = balance(one, [(one, "c"), (two, "b")], address)
    one.route(VNI, f"{address}/{128 if family == 6 else 32}", underlay)
    introduce(a, b, c)
    assert eventually(lambda: a.ping(address)), "the balancer answers by itself"
    with serving(b, address), serving(c, address), raw_socket(pair.fabric, "h1pf0") as fabric:
        answered = {called(a, address) for _ in range(TRIES)}
        assert answered == {b.namespace, c.namespace}
        outer = frames_on(fabric, 4 if family == 4 else 41, 3 * TRIES)
    ways = {(frame[22:38], frame[38:54]) for frame in outer}
    to_balancer = socket.inet_pton(socket.AF_INET6, a.underlay), socket.inet_pton(socket.AF_INET6, underlay)
    assert to_balancer in ways
    assert len(ways) >= 3, "to the balancer, from there to the other host, and back"


def rule(action: int) -> pb.CreateFirewallRuleRequest:
    """Of guest c: what comes in by TCP."""
    every = pb.Prefix(ip=pb.IpAddress(ipver=pb.IPV4, address=b"0.0.0.0"), length=0)
    ports = pb.TcpFilter(src_port_lower=-1, src_port_upper=-1, dst_port_lower=1, dst_port_upper=2)
    made = pb.FirewallRule(
        id=b"r", direction=pb.INGRESS, action=action, priority=1, source_prefix=every, destination_prefix=every,
        protocol_filter=pb.ProtocolFilter(tcp=ports),
    )  # fmt: skip
    return pb.CreateFirewallRuleRequest(interface_id=b"c", rule=made)


@pytest.mark.parametrize(
    ("options", "code", "passes"),
    [
        pytest.param(["--firewall=compat"], NO_DROP_SUPPORT, True, id="as the original: refused, nothing is enforced"),
        pytest.param([], 0, False, id="enforced"),
    ],
)
def test_firewalls_of_both_kinds(lab: Lab, options: list[str], code: int, passes: bool) -> None:
    one, two = lab.hosts
    a, c = lab.guest(one, 0, "10.0.0.1", "2001:db8::1"), lab.guest(one, 1, "10.0.0.3", "2001:db8::3")
    b = lab.guest(two, 0, "10.0.0.2", "2001:db8::2")
    one.start(*options)
    two.start()
    for host, guest, name in ((one, a, "a"), (one, c, "c"), (two, b, "b")):
        host.initialize()
        host.create(guest, VNI, name)
    one.route(VNI, f"{b.ipv4}/32", b.underlay)
    two.route(VNI, f"{c.ipv4}/32", c.underlay)
    introduce(a, b, c)
    eventually(lambda: b.ping(c.ipv4))
    assert a.ping(c.ipv4)
    assert one.stub.CreateFirewallRule(rule(pb.DROP), timeout=5).status.code == code
    if code == 0:
        answer = one.stub.DeleteFirewallRule(pb.DeleteFirewallRuleRequest(interface_id=b"c", rule_id=b"r"), timeout=5)
        assert answer.status.code == 0
    assert one.stub.CreateFirewallRule(rule(pb.ACCEPT), timeout=5).status.code == 0
    before = one.drops()["firewall"]
    assert a.ping(c.ipv4) is passes, "a rule for TCP says nothing of pings"
    assert b.ping(c.ipv4) is passes
    assert (one.drops()["firewall"] > before) is not passes
