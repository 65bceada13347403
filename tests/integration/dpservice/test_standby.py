"""A pair of data planes on one host: the active one dies, the other takes its connections over."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from services.dpservice.engine import ingress
from services.dpservice.engine.pins import Pins
from services.dpservice.inspection.tables import flows
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.lab import IMPATIENT, Guest, Host, Lab, eventually, run
from tests.integration.dpservice.namespaces import inside, stream_socket
from tests.integration.dpservice.test_packets import introduce

PUBLIC = "45.86.6.1"
INSIDE, OUTSIDE = "fc00:1:0:1:d000:8000:0:1", "fc00:1:0:2:d000:8000:0:1"
NAT = "fc00:1:0:1:d000:8000:0:2"
PATIENCE = 30.0  # seconds


class Instance:
    """One of the two on a host."""

    def __init__(self, host: Host, name: str, other: str, *options: str) -> None:
        self.host, self.name, self.other, self.options = host, name, other, options
        self.directory = host.directory / name
        (self.directory / "bpf").mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: grpc.Channel | None = None
        run("mount", "-t", "bpf", "bpf", str(self.directory / "bpf"))

    def start(self) -> pb_grpc.DPDKironcoreStub:
        command = [
            part.replace(str(self.host.directory), str(self.directory)) if "=" in part else part
            for part in self.host.command()
        ]
        command += [f"--active-lockfile={self.host.directory}/active"]
        command += [f"--sync-peer=unix:{self.host.directory}/{self.other}/grpc.sock", *self.options]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        if self.channel is not None:
            self.channel.close()
        self.channel = grpc.insecure_channel(f"unix:{self.directory}/grpc.sock", options=IMPATIENT)
        try:
            grpc.channel_ready_future(self.channel).result(timeout=PATIENCE)
        except grpc.FutureTimeoutError:
            raise AssertionError(self.log) from None
        return pb_grpc.DPDKironcoreStub(self.channel)

    def occupy(self, device: str) -> None:
        """Gives the first port to somebody else, so that both instances number the guest's differently."""
        stub = pb_grpc.DPDKironcoreStub(self.channel)
        assert stub.Initialize(pb.InitializeRequest(), timeout=PATIENCE).status.code == 0
        other = pb.CreateInterfaceRequest(
            interface_id=b"other", device_name=device, vni=7, ipv4_config=pb.IpConfig(primary_address=b"10.9.9.9")
        )
        assert stub.CreateInterface(other, timeout=PATIENCE).status.code == 0

    def command(self, guest: Guest) -> None:
        """What whoever commands the pair tells both."""
        stub = pb_grpc.DPDKironcoreStub(self.channel)
        calls = [
            stub.Initialize(pb.InitializeRequest(), timeout=PATIENCE),
            stub.CreateInterface(interface(guest, INSIDE), timeout=PATIENCE),
            stub.CreateNat(
                pb.CreateNatRequest(
                    interface_id=b"inside",
                    nat_ip=pb.IpAddress(ipver=pb.IPV4, address=PUBLIC.encode()),
                    min_port=1000,
                    max_port=1100,
                    preferred_underlay_route=NAT.encode(),
                ),
                timeout=PATIENCE,
            ),
            stub.CreateRoute(route("0.0.0.0", 0, OUTSIDE), timeout=PATIENCE),
        ]
        assert [call.status.code for call in calls] == [0] * len(calls)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def flows(self) -> set[tuple[object, ...]]:
        """Each direction of each flow with its NAT port and TCP state."""
        pins = Pins(self.directory / "bpf")
        try:
            return {tuple(value for name, value in row.items() if name != "seconds_left") for row in flows(pins)}
        finally:
            pins.close()

    def suspend(self) -> None:
        """It does nothing more, packets go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(20) == 0

    def close(self) -> None:
        self.kill()
        if self.channel is not None:
            self.channel.close()
        run("umount", str(self.directory / "bpf"))


def interface(guest: Guest, underlay: str) -> pb.CreateInterfaceRequest:
    return pb.CreateInterfaceRequest(
        interface_id=b"inside",
        device_name=guest.device,
        vni=VNI,
        ipv4_config=pb.IpConfig(primary_address=guest.ipv4.encode()),
        preferred_underlay_route=underlay.encode(),
    )


def route(address: str, length: int, underlay: str) -> pb.CreateRouteRequest:
    prefix = pb.Prefix(ip=pb.IpAddress(ipver=pb.IPV4, address=address.encode()), length=length)
    hop = pb.IpAddress(ipver=pb.IPV6, address=underlay.encode())
    return pb.CreateRouteRequest(vni=VNI, route=pb.Route(prefix=prefix, nexthop_vni=VNI, nexthop_address=hop))


@dataclass
class Talk:
    """The two ends of a TCP connection."""

    client: socket.socket
    server: socket.socket

    def __call__(self, words: bytes) -> bytes:
        """What the client says comes back from the server."""
        self.client.sendall(words)
        return self.told(self.server.recv(100))

    def told(self, words: bytes) -> bytes:
        """What the client hears of what the server says."""
        self.server.sendall(words)
        return self.client.recv(100)


@contextmanager
def talking(client: Guest, server: Guest) -> Iterator[Talk]:
    """A TCP connection from guest to guest, through NAT."""
    ear, mouth = stream_socket(server.namespace, socket.AF_INET), stream_socket(client.namespace, socket.AF_INET)
    with ear, mouth:
        ear.bind((server.ipv4, 5000))
        ear.listen()
        for each in (ear, mouth):
            each.settimeout(PATIENCE)
        mouth.connect((server.ipv4, 5000))
        connection, peer = ear.accept()
        assert peer[0] == PUBLIC
        with connection:
            connection.settimeout(PATIENCE)
            yield Talk(mouth, connection)


@pytest.fixture
def instances(lab: Lab) -> Iterator[tuple[Instance, Instance]]:
    host = lab.hosts[0]
    made = Instance(host, "a", "b"), Instance(host, "b", "a")
    try:
        yield made
    finally:
        for each in made:
            each.close()


@pytest.fixture
def ends(lab: Lab, instances: tuple[Instance, Instance]) -> tuple[Guest, Guest]:
    """A guest of the pair and one of the other host, with the first instance active and the second standing by."""
    first, second = instances
    guest = lab.guest(lab.hosts[0], 0, "10.0.0.1", "2001:db8::1")
    server = lab.guest(lab.hosts[1], 0, "10.0.0.2", "2001:db8::2")
    lab.hosts[1].start()
    lab.hosts[1].initialize()
    answer = lab.hosts[1].stub.CreateInterface(interface(server, OUTSIDE), timeout=PATIENCE)
    assert answer.status.code == 0
    assert lab.hosts[1].stub.CreateRoute(route(PUBLIC, 32, NAT), timeout=PATIENCE).status.code == 0
    for instance in instances:
        instance.start()
    first.command(guest)
    second.occupy("net_tap5")
    second.command(guest)
    assert "standing by" not in first.log
    eventually(lambda: "standing by" in second.log)
    introduce(guest, server)
    eventually(lambda: guest.ping(server.ipv4))
    return guest, server


def test_a_connection_through_nat_outlives_the_active_instance(
    instances: tuple[Instance, Instance], ends: tuple[Guest, Guest]
) -> None:
    (first, second), (guest, server) = instances, ends
    with talking(guest, server) as words:
        assert words(b"before\n") == b"before\n"
        eventually(lambda: "following" in second.log)
        eventually(lambda: second.flows() >= first.flows() > set())
        first.kill()
        eventually(lambda: "taking over" in second.log)
        assert words(b"after\n") == b"after\n"
        first.start()
        eventually(lambda: "standing by" in first.log)
        eventually(lambda: "following" in first.log)
        eventually(lambda: first.flows() >= second.flows() > set())
        assert words(b"again\n") == b"again\n"
        second.kill()
        eventually(lambda: "taking over" in first.log)
        assert words(b"and back\n") == b"and back\n"
    eventually(lambda: guest.ping(server.ipv4))  # an answer is lost that comes before uplinks are taken over


def test_a_young_connection_outlives_an_orderly_end(
    instances: tuple[Instance, Instance], ends: tuple[Guest, Guest]
) -> None:
    """It was opened when the active instance was already about to stop; the next to speak is its far end."""
    (first, second), (guest, server) = instances, ends
    eventually(lambda: "following" in second.log)
    with talking(guest, server) as words:
        assert words(b"before\n") == b"before\n"
        first.stop()
        eventually(lambda: "taking over" in second.log)
        assert words.told(b"after\n") == b"after\n"


def test_a_connection_of_the_last_moment_outlives_a_crash(
    instances: tuple[Instance, Instance], ends: tuple[Guest, Guest]
) -> None:
    """The active instance tells nobody of it: it hangs when the connection is opened, and then it is dead."""
    (first, second), (guest, server) = instances, ends
    eventually(lambda: "following" in second.log)
    first.suspend()
    with talking(guest, server) as words:
        assert words(b"before\n") == b"before\n"
        first.kill()
        eventually(lambda: "caught up" in second.log)
        assert words.told(b"after\n") == b"after\n"
        assert words(b"and on\n") == b"and on\n"
    assert "can't be opened" not in second.log


def test_a_standby_with_devices_of_its_own_is_quiet_and_quick(lab: Lab) -> None:
    """Until it takes over, its devices are as if it were not there. (It takes 30 ms where nothing else is done.)"""
    host, names = lab.hosts[0], [f"own{number}" for number in range(4)]
    own = [f"--device=net_tap{number + 10}={name}" for number, name in enumerate(names)]

    def at(name: str) -> set[str]:
        ours = ingress.OURS | ingress.RESERVED
        return set(inside(host.namespace, lambda: ingress._attached(socket.if_nametoindex(name), ours)).values())

    for name in names:
        run("ip", "-n", host.namespace, "link", "add", name, "type", "veth", "peer", "name", f"{name}x")
        run("ip", "-n", host.namespace, "link", "set", name, "up")
        run("ip", "-n", host.namespace, "link", "set", f"{name}x", "up")
    first, second = Instance(host, "a", "b"), Instance(host, "b", "a", *own)
    try:
        first.start()
        second.start()
        eventually(lambda: "following" in second.log)
        eventually(lambda: all(at(name) == {"standing_by"} for name in names))
        assert at("dtap0") == at("dtap3") == {"from_guest"}
        first.kill()
        killed = time.monotonic()
        while not all(at(name) == {"from_guest"} for name in names):
            assert time.monotonic() - killed < 0.5
        eventually(lambda: "caught up" in second.log)
    finally:
        for each in (first, second):
            each.close()
