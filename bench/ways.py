"""Ways of carrying packets between the guests of a lab: plain kernel forwarding, VXLAN with a bridge, the overlay.

Forwarding and overlay also do what a path asks for: translate the sender (NAT), the receiver (VIP), or choose a target
(LB); the kernel does it by nftables and its connection tracking.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path as FilePath
from typing import Any, Final, Protocol

import grpc

from bench.lab import ROOT, VNI, Lab, end_process, run, within
from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc

GATEWAY: Final = "169.254.0.1"
NAT_ADDRESS, VIP_ADDRESS, LB_ADDRESS = "192.0.2.1", "192.0.2.9", "192.0.2.10"
NAT_PORTS: Final = (1024, 65000)
DISCARD: Final = 9


class Path(Enum):
    """What happens to a packet from guest 1 on its way to guest 2."""

    PLAIN = "plain"
    NAT = "nat"
    VIP = "vip"
    LB = "lb"


class Way(Protocol):
    """Makes the hosts of a lab carry packets."""

    name: str
    symmetric: bool  # guest 2 can address guest 1

    def serve(self, lab: Lab, index: int) -> None:
        """Sets up one host; its port and its link are there."""

    def connect(self, lab: Lab) -> None:
        """What needs both hosts."""

    def target(self, lab: Lab) -> str:
        """Where guest 1 sends packets for guest 2."""


class Vxlan:
    """A bridge and a VXLAN device on each host, without UDP checksums and without flooding: as fast as it goes."""

    name = "vxlan"
    symmetric = True

    def serve(self, lab: Lab, index: int) -> None:
        host = lab.hosts[index]
        ends = f"local fd00::{index + 1} remote fd00::{2 - index} dstport 4789 udp6zerocsumtx udp6zerocsumrx"
        for command in (
            f"link add vx0 type vxlan id {VNI} {ends}",
            "link add br0 type bridge",
            "link set vx0 master br0 up",
            "link set dtap0 master br0",
            "link set br0 up",
        ):
            run("ip", "-n", host, *command.split())
        for mac, device in ((lab.macs[index], "dtap0"), (lab.macs[1 - index], "vx0")):
            run("bridge", "-n", host, "fdb", "replace", mac, "dev", device, "master", "static")

    def connect(self, lab: Lab) -> None:
        pass

    def target(self, lab: Lab) -> str:
        return lab.ips[1]


class Routing:
    """The kernel forwards; nftables translates."""

    name = "routing"

    def __init__(self, path: Path = Path.PLAIN) -> None:
        self._path = path
        self.symmetric = path is not Path.NAT

    def serve(self, lab: Lab, index: int) -> None:
        host, other = lab.hosts[index], 2 - index
        run(*within(host, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        for command in (
            f"address add {GATEWAY}/32 dev dtap0",
            f"route add {lab.ips[index]} dev dtap0",
            f"neigh add {lab.ips[index]} lladdr {lab.macs[index]} dev dtap0 nud permanent",
            f"route add {lab.ips[1 - index]} via 192.168.0.{other}",
            *(f"route add {address} via 192.168.0.{other}" for address in self._elsewhere(index)),
        ):
            run("ip", "-n", host, *command.split())
        rule = self._rule(lab, index)
        if rule:
            run(*within(host, "nft", f"table ip bench {{\nchain bench {{ {rule}; }}\n}}\n"))

    def _elsewhere(self, index: int) -> list[str]:
        """Addresses that the other host translates."""
        far = {Path.NAT: NAT_ADDRESS} if index else {Path.VIP: VIP_ADDRESS, Path.LB: LB_ADDRESS}
        return [far[self._path]] if self._path in far else []

    def _rule(self, lab: Lab, index: int) -> str:
        before, after = "type nat hook prerouting priority -100;", "type nat hook postrouting priority 100;"
        guest = lab.ips[1]
        match self._path, index:
            case Path.NAT, 0:
                ports = f"{NAT_PORTS[0]}-{NAT_PORTS[1]}"
                return f"{after} oif pf0 meta l4proto {{ icmp, tcp, udp }} snat to {NAT_ADDRESS}:{ports}"
            case Path.VIP, 1:
                return f"{before} ip daddr {VIP_ADDRESS} dnat to {guest}"
            case Path.LB, 1:
                choice = f"numgen inc mod 2 map {{ 0 : {guest}, 1 : {guest} }}"
                return f"{before} ip daddr {LB_ADDRESS} udp dport {DISCARD} dnat to {choice}"
        return ""

    def connect(self, lab: Lab) -> None:
        pass

    def target(self, lab: Lab) -> str:
        return {Path.VIP: VIP_ADDRESS, Path.LB: LB_ADDRESS}.get(self._path, lab.ips[1])


class Overlay:
    """The real dpservice daemon on each host, programmed by gRPC, with firewall rules in both directions."""

    name = "overlay"

    def __init__(self, path: Path = Path.PLAIN, rules: int = 10, options: Sequence[str] = ()) -> None:
        self._path, self._rules, self._options = path, rules, options
        self.symmetric = path is not Path.NAT
        self.stubs: list[Any] = []
        self.daemons: list[Daemon] = []
        self.underlays: list[str] = []

    def serve(self, lab: Lab, index: int) -> None:
        options = [f"--ipv6=fc00:1:0:{index + 1}::1", "--uplink=pf0", "--device=net_tap2=dtap0", *self._options]
        daemon = start_daemon(lab.hosts[index], lab.name, options, lab.undo)
        self.daemons.append(daemon)
        self.stubs.append(daemon.stub)

    def connect(self, lab: Lab) -> None:
        for index, stub in enumerate(self.stubs):
            stub.Initialize(pb.InitializeRequest(), timeout=5)
            made = checked(stub.CreateInterface(
                pb.CreateInterfaceRequest(interface_id=_guest(index), device_name="net_tap2", vni=VNI,
                                          ipv4_config=pb.IpConfig(primary_address=lab.ips[index].encode())),
                timeout=5,
            ))  # fmt: skip
            self.underlays.append(made.underlay_route.decode())
            for number in range(self._rules):
                for direction in (pb.INGRESS, pb.EGRESS):
                    checked(stub.CreateFirewallRule(self._rule(index, number, direction), timeout=5))
        getattr(self, f"_connect_{self._path.value}")(lab)

    def _rule(self, index: int, number: int, direction: int) -> pb.CreateFirewallRuleRequest:
        """All but the last match nothing that is sent."""
        port = 10_000 + number
        unused = pb.TcpFilter(src_port_lower=-1, src_port_upper=-1, dst_port_lower=port, dst_port_upper=port)
        last = number == self._rules - 1
        rule = pb.FirewallRule(
            id=f"rule-{direction}-{number}".encode(), direction=direction, action=pb.ACCEPT, priority=100 + number,
            source_prefix=_prefix("0.0.0.0/0"), destination_prefix=_prefix("0.0.0.0/0"),
            protocol_filter=None if last else pb.ProtocolFilter(tcp=unused),
        )  # fmt: skip
        return pb.CreateFirewallRuleRequest(interface_id=_guest(index), rule=rule)

    def _connect_plain(self, lab: Lab) -> None:
        self.route(0, f"{lab.ips[1]}/32", self.underlays[1])
        self.route(1, f"{lab.ips[0]}/32", self.underlays[0])

    def _connect_nat(self, lab: Lab) -> None:
        slice_ = pb.CreateNatRequest(interface_id=_guest(0), nat_ip=_address(NAT_ADDRESS), min_port=NAT_PORTS[0],
                                     max_port=NAT_PORTS[1])  # fmt: skip
        nat = checked(self.stubs[0].CreateNat(slice_, timeout=5))
        self.route(0, "0.0.0.0/0", self.underlays[1])
        self.route(1, f"{NAT_ADDRESS}/32", nat.underlay_route.decode())

    def _connect_vip(self, lab: Lab) -> None:
        request = pb.CreateVipRequest(interface_id=_guest(1), vip_ip=_address(VIP_ADDRESS))
        vip = checked(self.stubs[1].CreateVip(request, timeout=5))
        self.route(0, f"{VIP_ADDRESS}/32", vip.underlay_route.decode())
        self._connect_plain(lab)

    def _connect_lb(self, lab: Lab) -> None:
        stub = self.stubs[1]
        port = pb.LbPort(port=DISCARD, protocol=pb.UDP)
        balancer = checked(stub.CreateLoadBalancer(
            pb.CreateLoadBalancerRequest(loadbalancer_id=b"lb", vni=VNI, loadbalanced_ip=_address(LB_ADDRESS),
                                         loadbalanced_ports=[port]),
            timeout=5,
        ))  # fmt: skip
        prefix = pb.CreateLoadBalancerPrefixRequest(interface_id=_guest(1), prefix=_prefix(f"{LB_ADDRESS}/32"))
        target = checked(stub.CreateLoadBalancerPrefix(prefix, timeout=5)).underlay_route
        address = pb.IpAddress(ipver=pb.IPV6, address=target)
        request = pb.CreateLoadBalancerTargetRequest(loadbalancer_id=b"lb", target_ip=address)
        checked(stub.CreateLoadBalancerTarget(request, timeout=5))
        self.route(0, f"{LB_ADDRESS}/32", balancer.underlay_route.decode())
        self._connect_plain(lab)

    def route(self, index: int, prefix: str, underlay: str) -> None:
        """Adds a route to a host of the lab."""
        hop = pb.IpAddress(ipver=pb.IPV6, address=underlay.encode())
        route = pb.Route(prefix=_prefix(prefix), nexthop_vni=VNI, nexthop_address=hop)
        checked(self.stubs[index].CreateRoute(pb.CreateRouteRequest(vni=VNI, route=route), timeout=5))

    def target(self, lab: Lab) -> str:
        return {Path.VIP: VIP_ADDRESS, Path.LB: LB_ADDRESS}.get(self._path, lab.ips[1])


@dataclass(frozen=True)
class Daemon:
    """A running dpservice: its directory with bpf/ and grpc.sock, and clients of it."""

    directory: FilePath
    channel: grpc.Channel
    stub: Any

    @property
    def socket(self) -> FilePath:
        """Where it serves."""
        return self.directory / "grpc.sock"


def start_daemon(namespace: str, name: str, options: Sequence[str], undo: ExitStack) -> Daemon:
    """Runs dpservice in a namespace, with a bpffs and a state directory of its own, until `undo`.

    Raises RuntimeError with its log when it does not serve.
    """
    directory = FilePath(tempfile.mkdtemp(prefix=f"{name}-"))
    undo.callback(shutil.rmtree, directory)
    (directory / "bpf").mkdir()
    run("mount", "-t", "bpf", "bpf", str(directory / "bpf"))
    undo.callback(run, "umount", str(directory / "bpf"))
    log = undo.enter_context((directory / "log").open("ab"))
    places = [f"--bpf-root={directory}/bpf", f"--state-dir={directory}/state", f"--grpc-unix={directory}/grpc.sock"]
    daemon = subprocess.Popen(
        within(namespace, sys.executable, "-m", "services.dpservice", "serve", *options, *places),
        stdout=log, stderr=log, cwd=ROOT,
    )  # fmt: skip
    undo.callback(end_process, daemon)
    channel = grpc.insecure_channel(f"unix:{directory}/grpc.sock")
    undo.callback(channel.close)
    try:
        grpc.channel_ready_future(channel).result(timeout=60)
    except grpc.FutureTimeoutError:
        raise RuntimeError((directory / "log").read_text()) from None
    return Daemon(directory, channel, pb_grpc.DPDKironcoreStub(channel))


def checked(answer: Any) -> Any:
    """The answer of a call that must succeed. Raises RuntimeError."""
    if answer.status.code:
        raise RuntimeError(f"{type(answer).__name__}: {answer.status.message} ({answer.status.code})")
    return answer


def _guest(index: int) -> bytes:
    return f"guest-{index}".encode()


def _address(text: str) -> pb.IpAddress:
    return pb.IpAddress(ipver=pb.IPV4, address=text.encode())


def _prefix(text: str) -> pb.Prefix:
    address, length = text.split("/")
    return pb.Prefix(ip=_address(address), length=int(length))
