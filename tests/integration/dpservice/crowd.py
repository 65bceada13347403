"""A host with as many guests as wanted: veth pairs whose other ends are in one namespace, silent but for raw frames."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpservice.v1 import routes_pb2 as bulk
from protos.dpservice.v1 import routes_pb2_grpc as bulk_grpc
from services.dpservice.engine.pins import Pins
from tests.integration.dpservice.conftest import VNI
from tests.integration.dpservice.frames import arp, ethernet, ipv4, ipv6, mac, udp, udp6
from tests.integration.dpservice.lab import GATEWAY4, Host, Lab, eventually, run
from tests.integration.dpservice.namespaces import attached, raw_socket

FIRST: Final = IPv4Address("10.1.0.1")
FIRST6: Final = IPv6Address("2001:db8::1")
HOP: Final = IPv6Address("fc00:1:0:2:d000:8000:0:1")
BATCH: Final = 50_000  # routes in one
ARP, IPV4, IPV6, UDP = 0x0806, 0x0800, 0x86DD, 17


@dataclass
class Crowd:
    """The guests of the lab's first host; guest n has the address FIRST + n and the device net_tap<n + 10>."""

    lab: Lab
    count: int
    gateways: list[str] = field(default_factory=list)
    underlays: list[IPv6Address] = field(default_factory=list)
    sockets: dict[int, socket.socket] = field(default_factory=dict)

    @property
    def host(self) -> Host:
        return self.lab.hosts[0]

    @property
    def space(self) -> str:
        return f"{self.lab.name}-crowd"

    def begin(self, *options: str) -> None:
        """Makes the devices, starts the daemon, creates the interfaces."""
        run("ip", "netns", "add", self.space)
        run("ip", "netns", "exec", self.space, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        batch = self.lab.directory / "batch"
        numbers = range(self.count)
        batch.write_text(
            "".join(
                f"link add c{n} type veth peer name e{n} address {guest_mac(n)} netns {self.space}\n" for n in numbers
            )
        )
        run("ip", "-n", self.host.namespace, "-batch", str(batch))
        batch.write_text("".join(f"link set e{n} up\n" for n in numbers))
        run("ip", "-n", self.space, "-batch", str(batch))
        self.host.slots, self.host.patience = 0, 20 + self.count / 10
        self.host.start(*(f"--device=net_tap{n + 10}=c{n}" for n in numbers), *options)
        self.host.initialize()
        for n in numbers:
            self.create(n)
        links = json.loads(run("ip", "-n", self.host.namespace, "-j", "link", "show", "type", "veth"))
        found = {link["ifname"]: link["address"] for link in links}
        self.gateways = [found[f"c{n}"] for n in numbers]
        last = self.count - 1
        eventually(lambda: attached(self.host.namespace, f"c{last}") is not None, 60)

    def create(self, number: int) -> None:
        """Makes the guest's interface."""
        answer = self.host.stub.CreateInterface(
            pb.CreateInterfaceRequest(
                interface_id=f"vm-{number}".encode(),
                device_name=f"net_tap{number + 10}",
                vni=VNI,
                ipv4_config=pb.IpConfig(primary_address=str(address(number)).encode()),
                ipv6_config=pb.IpConfig(primary_address=str(FIRST6 + number).encode()),
            ),
            timeout=5,
        )
        assert answer.status.code == 0, (number, answer)
        self.underlays.append(IPv6Address(answer.underlay_route.decode()))

    def socket_of(self, number: int) -> socket.socket:
        """The guest's end, which said who it is."""
        if number not in self.sockets:
            made = self.sockets[number] = raw_socket(self.space, f"e{number}")
            asked = arp(1, guest_mac(number), str(address(number)), "00:00:00:00:00:00", GATEWAY4)
            made.send(ethernet("ff:ff:ff:ff:ff:ff", guest_mac(number), ARP, asked))
            received(made, lambda frame: frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2")
        return self.sockets[number]

    def frame(self, number: int, destination: IPv4Address, source_port: int, port: int) -> bytes:
        """A datagram of the guest."""
        packet = ipv4(str(address(number)), str(destination), UDP, udp(source_port, port, b"crowd"))
        return ethernet(self.gateways[number], guest_mac(number), IPV4, packet)

    def frame6(self, number: int, destination: IPv6Address, source_port: int, port: int) -> bytes:
        """The same over IPv6."""
        source, to = str(FIRST6 + number), str(destination)
        packet = ipv6(source, to, UDP, udp6(source, to, source_port, port, b"crowd"))
        return ethernet(self.gateways[number], guest_mac(number), IPV6, packet)

    @contextmanager
    def fabric(self) -> Iterator[socket.socket]:
        """The other end of the first uplink."""
        eventually(self.host.has_uplink)
        with raw_socket(self.lab.fabric, "h1pf0") as made:
            yield made

    def load_routes(self, prefixes: Iterable[tuple[bytes, int]], version: int) -> int:
        """Adds routes to HOP by the bulk call, until a batch of them is refused; the last code."""
        hop = bulk.NextHop(underlay=HOP.packed, vni=VNI)
        batches = [
            bulk.RouteBatch(vni=VNI, ip_version=version, added=b"".join(part), next_hops=[hop],
                            next_hop_indexes=[0] * len(part))
            for part in _parts([packed + bytes([length]) for packed, length in prefixes])
        ]  # fmt: skip
        for result in bulk_grpc.RoutesStub(self.host.channel).ApplyRoutes(iter(batches), timeout=300):
            if result.code:
                return int(result.code)
        return 0

    def held(self) -> dict[int, int]:
        """How many flows each guest has in the table; -1 stands for the host itself."""
        pins = Pins(self.host.directory / "bpf")
        try:
            layout = pins.layout("usage")
            counts = enumerate(layout.number(raw, "flows") for raw in pins.map("usage").values())
            return {index - 1: count for index, count in counts if count}
        finally:
            pins.close()

    def resident(self) -> int:
        """Bytes of the daemon's own memory."""
        assert self.host.process is not None
        status = Path(f"/proc/{self.host.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def tables(self) -> int:
        """Bytes of the kernel's for the maps that the daemon holds."""
        assert self.host.process is not None
        found = {}
        for info in Path(f"/proc/{self.host.process.pid}/fdinfo").iterdir():
            fields = dict(line.split(":\t", 1) for line in info.read_text().splitlines() if ":\t" in line)
            if "map_id" in fields:
                found[fields["map_id"]] = int(fields["memlock"])
        return sum(found.values())

    def close(self) -> None:
        """Before the lab is closed."""
        for each in self.sockets.values():
            each.close()
        run("ip", "netns", "delete", self.space, check=False)


def guest_mac(number: int) -> str:
    return f"52:54:00:01:{number >> 8:02x}:{number & 0xFF:02x}"


def address(number: int) -> IPv4Address:
    return FIRST + number


def received(listener: socket.socket, wanted: Callable[[bytes], bool], seconds: float = 5.0) -> bytes:
    """The next frame of those wanted."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            frame = listener.recv(65536)
        except TimeoutError:
            continue
        if wanted(frame):
            return frame
    raise AssertionError(f"none within {seconds} s")


def carried(crowd: Crowd, sender: int, receiver: int, source_port: int = 7, port: int = 53) -> bytes:
    """What became of a datagram of one guest to another one, which got it."""
    speaker, listener = crowd.socket_of(sender), crowd.socket_of(receiver)
    sent = crowd.frame(sender, address(receiver), source_port, port)
    _empty(listener)
    speaker.send(sent)
    frame = received(listener, lambda frame: frame[14:] == sent[14:])
    assert frame[:14] == mac(guest_mac(receiver)) + mac(crowd.gateways[receiver]) + b"\x08\0"
    return frame


def _empty(listener: socket.socket) -> None:
    """A queue that is full of earlier frames takes no more."""
    patience = listener.gettimeout()
    listener.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            listener.recv(65536)
    listener.settimeout(patience)


def open_flows(crowd: Crowd, sender: int, receiver: int, count: int) -> None:
    """Sends the first packets of so many flows."""
    speaker = crowd.socket_of(sender)
    crowd.socket_of(receiver)
    frame = crowd.frame(sender, address(receiver), 0, 0)
    for number in range(count):
        ports = struct.pack("!HH", 1024 + number % 60_000, 1024 + number // 60_000)
        speaker.send(frame[:34] + ports + frame[38:])


def _parts(entries: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (entries[start : start + BATCH] for start in range(0, len(entries), BATCH))


@contextmanager
def crowds(lab: Lab, count: int, *options: str) -> Iterator[Crowd]:
    """So many guests on a daemon with these options."""
    made = Crowd(lab, count)
    try:
        made.begin(*options)
        yield made
    finally:
        made.close()
