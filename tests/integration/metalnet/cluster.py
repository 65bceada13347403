"""A partition on loopback, each part a process of its own: etcd, API server, route reflector, and nodes.

A node is a data plane (without packets) and an agent.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from protos.metalnet.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.metalnet.v1alpha1.network_pb2 import Network
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.client.interface import Client
from tests.support.eventually import eventually
from tests.support.processes import free_port, start, stop

NAMESPACE = "metalnet"
WITHIN = 60.0


@dataclass
class Process:
    """One part; may be killed and started again with the same arguments and more."""

    name: str
    directory: Path
    arguments: list[str]
    running: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        self.running = start([sys.executable, "-m", *self.arguments, *more], self.directory / f"{self.name}.log")

    def kill(self) -> None:
        assert self.running is not None
        stop(self.running, signal.SIGKILL)

    def stop(self) -> int:
        return stop(self.running) if self.running is not None else 0

    @property
    def log(self) -> str:
        return (self.directory / f"{self.name}.log").read_text()


@dataclass
class Node:
    """A hypervisor."""

    name: str
    directory: Path
    socket: str
    dataplane: Process
    agent: Process

    @property
    def claims(self) -> dict[str, str]:
        found = (self.directory / "metalnet" / "netfns" / "claims").iterdir()
        return {file.name: file.read_text() for file in found}

    async def interfaces(self) -> list[pb.Interface]:
        async with grpc.aio.insecure_channel(self.socket) as channel:
            stub = pb_grpc.DPDKironcoreStub(channel)
            return list((await stub.ListInterfaces(pb.ListInterfacesRequest(), timeout=20)).interfaces)

    async def routes(self, vni: int) -> dict[str, str]:
        """Prefix to underlay address; empty for an unknown network."""
        async with grpc.aio.insecure_channel(self.socket) as channel:
            stub = pb_grpc.DPDKironcoreStub(channel)
            answer = await stub.ListRoutes(pb.ListRoutesRequest(vni=vni), timeout=20)
        return {
            f"{route.prefix.ip.address.decode()}/{route.prefix.length}": route.nexthop_address.address.decode()
            for route in answer.routes
        }

    async def create_interface(self, request: pb.CreateInterfaceRequest) -> None:
        async with grpc.aio.insecure_channel(self.socket) as channel:
            answer = await pb_grpc.DPDKironcoreStub(channel).CreateInterface(request, timeout=20)
        assert answer.status.code == 0, answer

    async def add_route(self, vni: int, prefix: str, hop: str) -> None:
        address, length = prefix.split("/")
        route = pb.Route(
            prefix=pb.Prefix(ip=pb.IpAddress(ipver=pb.IPV4, address=address.encode()), length=int(length)),
            nexthop_address=pb.IpAddress(ipver=pb.IPV6, address=hop.encode()),
        )
        async with grpc.aio.insecure_channel(self.socket) as channel:
            stub = pb_grpc.DPDKironcoreStub(channel)
            answer = await stub.CreateRoute(pb.CreateRouteRequest(vni=vni, route=route), timeout=20)
        assert answer.status.code == 0, answer


def underlay(nic: NetworkInterface) -> str:
    """The underlay address that an interface's status tells."""
    [message] = [condition.message for condition in nic.status.conditions if condition.type == "Programmed"]
    return str(message.split()[2])


class Partition:
    """All parts; `close` ends them."""

    def __init__(self, etcd: str, directory: Path) -> None:
        self.directory = directory
        self.api_address, self.bond_port = f"127.0.0.1:{free_port()}", free_port()
        self.api = Process(
            "apiserver",
            directory,
            [
                *("services.metalnet.apiserver", "--insecure", f"--grpc-listen={self.api_address}"),
                *(f"--https-listen=127.0.0.1:{free_port()}", f"--etcd-endpoints={etcd}"),
                *(f"--etcd-prefix=/ft-metalnet-{directory.name}", "--compaction-interval=0"),
                "--abandon-after=3",
            ],
        )
        self.bond = Process(
            "metalbond",
            directory,
            [
                *("services.metalbond", "server", f"--listen=[::1]:{self.bond_port}", "--grace=5"),
                f"--grpc-listen=unix:{directory / 'bond.sock'}",
            ],
        )
        self.nodes = [self._node(number) for number in (1, 2)]
        self.client: Client

    def _node(self, number: int) -> Node:
        name = f"hv{number}"
        directory = self.directory / name
        directory.mkdir()
        dataplane = Process(
            "dpservice",
            directory,
            [
                *("services.dpservice", "serve", "--engine=memory", f"--ipv6=fc00:1:0:{number}::1"),
                *(f"--device=net_tap{index + 2}=dtapvf_{index}" for index in range(4)),
                *(f"--grpc-unix={directory / 'dp.sock'}", f"--state-dir={directory / 'state'}"),
            ],
        )
        agent = Process(
            "agent",
            directory,
            [
                *("services.metalnet.agent", f"--node-name={name}", "--metalnet.insecure", "--enable-ipv6"),
                *(f"--metalnet.address={self.api_address}", f"--dp-service-address=unix:{directory / 'dp.sock'}"),
                *(f"--metalbond-peer=[::1]:{self.bond_port}", "--tapdevice-mod", "--route-settle=1"),
                "--node-heartbeat=1",
                *(f"--metalnet-dir={directory / 'metalnet'}", "--node-address=192.0.2.1", "--audit-interval=2"),
            ],
        )
        return Node(name, directory, f"unix:{directory / 'dp.sock'}", dataplane, agent)

    @property
    def processes(self) -> list[Process]:
        return [self.api, self.bond, *(each for node in self.nodes for each in (node.dataplane, node.agent))]

    def start(self) -> None:
        for process in self.processes:
            process.start()

    def close(self) -> None:
        for process in self.processes:
            process.stop()

    async def connect(self) -> None:
        self.client = GrpcClient(self.api_address, manager="tester")
        await eventually(lambda: self.client.list(Network), WITHIN, every=0.2)

    async def clean(self) -> None:
        """Deletes everything; what stays behind is a failure."""
        for kind in (NetworkInterface, Network):
            for obj in (await self.client.list(kind)).items:
                if not obj.metadata.HasField("deletion_timestamp"):
                    await self.client.delete(kind, obj.metadata.name, NAMESPACE)

        async def gone() -> bool:
            left = [(await self.client.list(kind)).items for kind in (NetworkInterface, Network)]
            ports = [await node.interfaces() for node in self.nodes]
            claims = [node.claims for node in self.nodes]
            if any(left) or any(ports) or any(claims):
                raise AssertionError(f"{left} {ports} {claims}")
            return True

        await eventually(gone, WITHIN, every=0.1)
        await self.client.close()

    def print_logs(self) -> None:
        for process in self.processes:
            print(f"--- {process.directory.name} {process.name}\n{process.log[-8000:]}")

    async def create_network(self, name: str, vni: int) -> None:
        network = Network()
        network.metadata.name, network.metadata.namespace, network.spec.id = name, NAMESPACE, vni
        await self.client.create(network)

    async def create_nic(self, name: str, network: str, node: str, *ips: str, **spec: object) -> NetworkInterface:
        nic = NetworkInterface()
        nic.metadata.name, nic.metadata.namespace = name, NAMESPACE
        nic.spec.network_ref.name, nic.spec.node_name = network, node
        nic.spec.ips.extend(ips)
        nic.spec.ip_families.extend("IPv6" if ":" in ip else "IPv4" for ip in ips)
        nic.spec.MergeFrom(type(nic.spec)(**spec))
        return await self.client.create(nic)

    async def nic(self, name: str) -> NetworkInterface:
        return await self.client.get(NetworkInterface, name, NAMESPACE)

    async def ready(self, name: str) -> NetworkInterface:
        """The interface once it is Ready."""

        async def look() -> NetworkInterface | None:
            nic = await self.nic(name)
            if nic.status.state == "Ready":
                return nic
            raise AssertionError(str(nic.status))

        return await eventually(look, WITHIN)

    async def condition(self, name: str, type: str, reason: str) -> str:
        """The message of a condition once it has the reason."""

        async def look() -> str | None:
            nic = await self.nic(name)
            for condition in nic.status.conditions:
                if (condition.type, condition.reason) == (type, reason):
                    return str(condition.message) or " "
            raise AssertionError(str(nic.status))

        return await eventually(look, WITHIN)

    async def patch(self, name: str, spec: dict[str, object]) -> None:
        await self.client.patch(NetworkInterface, name, {"spec": spec}, NAMESPACE)

    async def delete(self, name: str) -> None:
        await self.client.delete(NetworkInterface, name, NAMESPACE)

    async def routes_are(self, node: Node, vni: int, wanted: dict[str, str], within: float = WITHIN) -> None:
        async def look() -> bool:
            present = await node.routes(vni)
            if present == wanted:
                return True
            raise AssertionError(f"{node.name} has {present}")

        await eventually(look, within, every=0.1)


@contextmanager
def running_partition(etcd: str, directory: Path) -> Iterator[Partition]:
    """Everything started; ended afterwards."""
    partition = Partition(etcd, directory)
    partition.start()
    try:
        yield partition
    finally:
        partition.close()
