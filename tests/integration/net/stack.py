"""The three API servers as processes over one etcd, and what brings objects from one to the next."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from ferrite.dev.certificates import Identity
from protos.k8s.core.v1.namespace_pb2 import Namespace
from protos.k8s.core.v1.node_pb2 import Node
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.client.interface import Client, M
from services.apimachinery.errors import AlreadyExists, ApiError, NotFound
from services.common.tls import TlsFiles
from tests.integration.core.apiserver.conftest import CoreServer
from tests.support.eventually import eventually
from tests.support.processes import free_port, start, stop

WITHIN = 60.0
PARTITION = "p1"
NET = "apinet"
"""Namespace of the net API for everything that comes from core."""
METALNET = "metalnet"
"""Namespace of everything in the metalnet API."""
APIS = ("core.ironcore.dev:system:apiservers",)
IDENTITIES = {
    "net": Identity("net", APIS, ("127.0.0.1",)),
    "metalnet": Identity("metalnet", APIS, ("127.0.0.1",)),
    "apinetlet": Identity(
        "apinetlet", ("apinet.ironcore.dev:system:apinetlets", "networking.ironcore.dev:system:networkplugins")
    ),
    "metalnetlet": Identity("metalnetlet", ("apinet.ironcore.dev:system:metalnetlets",)),
}


class Process:
    """One part; may be killed and started again."""

    def __init__(self, core: CoreServer, name: str, module: str, *flags: str) -> None:
        self.log = core.place / f"{name}.log"
        self._arguments = [sys.executable, "-m", module, "--log-format=text", *flags]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = start(self._arguments, self.log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        return stop(self._process) if self._process is not None else 0


class Api:
    """An API server beside core."""

    def __init__(self, core: CoreServer, name: str, module: str, prefix: str, *flags: str) -> None:
        tls = core.identity(name.partition("-")[0], IDENTITIES[name.partition("-")[0]])
        self.address = f"127.0.0.1:{free_port()}"
        self.process = Process(
            core,
            name,
            module,
            *(f"--grpc-listen={self.address}", f"--https-listen=127.0.0.1:{free_port()}"),
            *(f"--etcd-endpoints={core.etcd}", f"--etcd-prefix={prefix}"),
            *(f"--tls-ca={tls.ca}", f"--tls-cert={tls.cert}", f"--tls-key={tls.key}"),
            *access("core", core.grpc, tls),
            *flags,
        )

    def client(self, core: CoreServer) -> Client:
        return GrpcClient(self.address, tls=core.admin_tls, manager="tests")


def access(side: str, address: str, tls: TlsFiles) -> list[str]:
    """The flags by which a process reaches an API server."""
    files = [f"--{side}.tls-ca={tls.ca}", f"--{side}.tls-cert={tls.cert}", f"--{side}.tls-key={tls.key}"]
    return [f"--{side}.address={address}", *files]


class Stack:
    """Core, net and metalnet with clients of an administrator; apinetlet and metalnetlet to be started by the test."""

    def __init__(self, core_server: CoreServer, *net_flags: str) -> None:
        token = secrets.token_hex(4)
        self.server = core_server
        prefix = f"/ft-net-{token}"
        self.apis = [
            Api(core_server, f"net-{number}-{token}", "services.net.apiserver", prefix, *net_flags) for number in (1, 2)
        ]
        self.metalnet_api = Api(core_server, f"metalnet-{token}", "services.metalnet.apiserver", f"/ft-metal-{token}")
        self.core: Client = GrpcClient(core_server.grpc, tls=core_server.admin_tls, manager="tests")
        self.nets = [api.client(core_server) for api in self.apis]
        self.net = self.nets[0]
        self.metalnet = self.metalnet_api.client(core_server)
        self.apinetlet, self.metalnetlet = self._apinetlet(), self._metalnetlet()

    def _apinetlet(self) -> Process:
        tls = self.server.identity("apinetlet", IDENTITIES["apinetlet"])
        sides = [*access("core", self.server.grpc, tls), *access("api-net", self.apis[0].address, tls)]
        return Process(self.server, "apinetlet", "services.net.apinetlet", *sides, f"--api-net-namespace={NET}")

    def _metalnetlet(self) -> Process:
        tls = self.server.identity("metalnetlet", IDENTITIES["metalnetlet"])
        sides = [*access("net", self.apis[0].address, tls), *access("metalnet", self.metalnet_api.address, tls)]
        flags = [f"--name={PARTITION}", f"--metalnet-namespace={METALNET}", '--node-label={"zone": "z1"}']
        return Process(self.server, "metalnetlet", "services.net.metalnetlet", *sides, *flags)

    @property
    def _processes(self) -> list[Process]:
        return [*(api.process for api in self.apis), self.metalnet_api.process, self.apinetlet, self.metalnetlet]

    async def open(self) -> None:
        for api in (*self.apis, self.metalnet_api):
            api.process.start()
        for name in (NET, METALNET):
            try:
                await self.core.create(Namespace(metadata=ObjectMeta(name=name)))
            except AlreadyExists:
                pass
        for client in (*self.nets, self.metalnet):
            await reachable(client)

    async def close(self) -> None:
        for client in (self.core, *self.nets, self.metalnet):
            await client.close()
        for process in self._processes:
            process.stop()
            if process.log.exists():
                print(f"--- {process.log.name}\n{process.log.read_text()[-6000:]}")

    async def add_node(self, name: str) -> None:
        """A hypervisor of the partition, as its agent registers it."""
        await self.metalnet.create(Node(metadata=ObjectMeta(name=name)))


async def reachable(client: Client) -> None:
    """Waits until an API server answers."""

    async def look() -> bool:
        try:
            await client.get(Node, "nobody")
        except NotFound:
            return True
        except ApiError as error:
            # Net has Nodes of another group; that it says so is an answer too.
            return error.code in (400, 404, 405)
        return True

    assert await eventually(look, WITHIN)


async def seen(client: Client, kind: type[M], name: str, namespace: str, holds: Callable[[M], object]) -> M:
    """The object once `holds` is true of it."""
    last: list[M] = []

    async def look() -> bool:
        last[:] = [await client.get(kind, name, namespace)]
        if holds(last[0]):
            return True
        raise AssertionError(str(last[0]))

    assert await eventually(look, WITHIN)
    return last[0]


async def gone(client: Client, kind: type[Any], name: str, namespace: str = "") -> None:
    """Waits until the object is no more."""

    async def look() -> bool:
        try:
            await client.get(kind, name, namespace)
        except NotFound:
            return True
        return False

    assert await eventually(look, WITHIN)


@asynccontextmanager
async def running_stack(core_server: CoreServer, *net_flags: str) -> AsyncIterator[Stack]:
    """API servers started; everything ended afterwards."""
    stack = Stack(core_server, *net_flags)
    async with AsyncExitStack() as ending:
        ending.push_async_callback(stack.close)
        await stack.open()
        yield stack
