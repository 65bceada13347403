"""Traffic goes on while the data plane is told thousands of other things: nothing is lost or comes to somebody else."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from google.protobuf.message import Message

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.lab import Guest, Lab, eventually
from tests.integration.dpservice.namespaces import inside
from tests.integration.dpservice.test_packets import introduce

CALLS = 10_000
PORT = 7000
PAUSE = 0.005  # between two packets of a flow
PUBLIC, SHARED = "198.51.100.9", "203.0.113.3"
Call = tuple[str, Message]


def address(text: str) -> pb.IpAddress:
    return pb.IpAddress(ipver=pb.IPV6 if ":" in text else pb.IPV4, address=text.encode())


def prefix(text: str, length: int) -> pb.Prefix:
    return pb.Prefix(ip=address(text), length=length)


def route(number: int) -> pb.Route:
    to = address("fc00:1:0:9::1")
    return pb.Route(prefix=prefix(f"10.7.{number >> 8}.{number & 255}", 32), nexthop_vni=VNI, nexthop_address=to)


def changes() -> list[list[Call]]:
    """What each caller does again and again; each of these is taken back by its end."""
    c, lb = {"interface_id": b"c"}, {"loadbalancer_id": b"lb"}
    new = {
        "interface_id": b"new",
        "device_name": "net_tap4",
        "vni": VNI,
        "ipv4_config": pb.IpConfig(primary_address=b"10.0.0.77"),
    }
    rule = pb.FirewallRule(id=b"r", direction=pb.INGRESS, action=pb.DROP, priority=1,
                           source_prefix=prefix("0.0.0.0", 0), destination_prefix=prefix("0.0.0.0", 0))  # fmt: skip
    foreign = {"nat_ip": address(SHARED), "vni": VNI, "min_port": 5000, "max_port": 6000}
    elsewhere = address("fc00:1:0:9::2")
    return [
        [(f"{verb}Route", getattr(pb, f"{verb}RouteRequest")(vni=VNI, route=route(number)))
         for number in range(20) for verb in ("Create", "Delete")],
        [("CreateFirewallRule", pb.CreateFirewallRuleRequest(**c, rule=rule)),
         ("DeleteFirewallRule", pb.DeleteFirewallRuleRequest(**c, rule_id=b"r"))],
        [("CreateVip", pb.CreateVipRequest(**c, vip_ip=address("203.0.113.1"))),
         ("DeleteVip", pb.DeleteVipRequest(**c))],
        [("CreateNat", pb.CreateNatRequest(**c, nat_ip=address(SHARED), min_port=3000, max_port=4000)),
         ("DeleteNat", pb.DeleteNatRequest(**c))],
        [("CreatePrefix", pb.CreatePrefixRequest(**c, prefix=prefix("10.8.0.0", 24))),
         ("DeletePrefix", pb.DeletePrefixRequest(**c, prefix=prefix("10.8.0.0", 24)))],
        [("CreateNeighborNat", pb.CreateNeighborNatRequest(**foreign, underlay_route=b"fc00:1:0:9::2")),
         ("DeleteNeighborNat", pb.DeleteNeighborNatRequest(**foreign))],
        [("CreateLoadBalancer", pb.CreateLoadBalancerRequest(**lb, vni=VNI, loadbalanced_ip=address("203.0.113.5"),
                                                             loadbalanced_ports=[pb.LbPort(port=80, protocol=pb.TCP)])),
         ("CreateLoadBalancerTarget", pb.CreateLoadBalancerTargetRequest(**lb, target_ip=elsewhere)),
         ("DeleteLoadBalancerTarget", pb.DeleteLoadBalancerTargetRequest(**lb, target_ip=elsewhere)),
         ("DeleteLoadBalancer", pb.DeleteLoadBalancerRequest(**lb))],
        [("CreateInterface", pb.CreateInterfaceRequest(**new)),
         ("CreateRoute", pb.CreateRouteRequest(vni=VNI, route=route(1000))),
         ("DeleteInterface", pb.DeleteInterfaceRequest(interface_id=b"new")),
         ("DeleteRoute", pb.DeleteRouteRequest(vni=VNI, route=route(1000)))],
    ]  # fmt: skip


@dataclass
class Talk:
    """A conversation: numbered datagrams, each of which comes back."""

    name: str
    mouth: socket.socket
    ear: socket.socket
    to: str
    sent: int = 0
    heard: Counter[bytes] = field(default_factory=Counter)
    answered: Counter[bytes] = field(default_factory=Counter)

    def speak(self) -> None:
        self.mouth.sendto(f"{self.name} {self.sent}".encode(), (self.to, PORT))
        self.sent += 1

    def repeat(self) -> None:
        """Until the socket is silent for a second: the server's part."""
        try:
            while True:
                words, sender = self.ear.recvfrom(100)
                self.heard[words] += 1
                self.ear.sendto(words, sender)
        except TimeoutError:
            return

    def listen(self) -> None:
        try:
            while True:
                self.answered[self.mouth.recv(100)] += 1
        except TimeoutError:
            return

    def check(self) -> None:
        wanted = Counter(f"{self.name} {number}".encode() for number in range(self.sent))
        assert self.heard == wanted, f"{self.name}: {len(wanted - self.heard)} lost, {self.heard - wanted} misdelivered"
        assert self.answered == wanted, f"{self.name}: {len(wanted - self.answered)} answers lost"


def talk(name: str, client: Guest, server: Guest, to: str) -> Talk:
    family = socket.AF_INET6 if ":" in to else socket.AF_INET

    def datagrams() -> socket.socket:
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.settimeout(2)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        return made

    mouth, ear = inside(client.namespace, datagrams), inside(server.namespace, datagrams)
    ear.bind((to, PORT))
    return Talk(name, mouth, ear, to)


def make_calls(stub: pb_grpc.DPDKironcoreStub, calls: Sequence[Call], done: list[int], number: int) -> None:
    """Again and again, until all callers together have made enough."""
    while sum(done) < CALLS:
        for name, request in calls:
            answer = getattr(stub, name)(request, timeout=30)
            assert answer.status.code == 0, (name, answer)
            done[number] += 1


def test_calls_and_packets(pair: Lab) -> None:
    one, two = pair.hosts
    a, b, c = pair.guests[:3]
    b.run("ip", "address", "add", f"{PUBLIC}/32", "dev", "lo")
    one.route(VNI, "0.0.0.0/0", two.create_prefix("b", f"{PUBLIC}/32"))
    nat = one.stub.CreateNat(
        pb.CreateNatRequest(interface_id=b"a", nat_ip=address(SHARED), min_port=1024, max_port=2048), timeout=5
    )
    two.route(VNI, f"{SHARED}/32", nat.underlay_route.decode())
    introduce(a, b, c)
    for to in (b.ipv4, c.ipv4, b.ipv6, PUBLIC):
        eventually(lambda to=to: a.ping(to))
    talks = [
        talk("other host", a, b, b.ipv4),
        talk("same host", a, c, c.ipv4),
        talk("IPv6", a, b, b.ipv6),
        talk("NAT", a, b, PUBLIC),
    ]
    ended = threading.Event()

    def speak() -> None:
        while not ended.wait(PAUSE):
            for each in talks:
                each.speak()

    with ThreadPoolExecutor(20) as threads:
        for each in talks:
            each.speak()
        ears = [threads.submit(job) for each in talks for job in (each.repeat, each.listen)]
        time.sleep(0.5)
        speaking = threads.submit(speak)
        plans = changes()
        done = [0] * len(plans)
        try:
            for caller in [
                threads.submit(make_calls, one.stub, plan, done, number) for number, plan in enumerate(plans)
            ]:
                caller.result()
        finally:
            ended.set()
        speaking.result()
        for ear in ears:
            ear.result()
    for each in talks:
        each.check()
        each.mouth.close()
        each.ear.close()
