"""A real core API server, poollets as processes, and runtimes in the test's process."""

from __future__ import annotations

import inspect
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ferrite.dev.certificates import Identity
from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.k8s.core.v1.namespace_pb2 import Namespace
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.network_pb2 import Network
from protos.storage.v1alpha1.volume_class_pb2 import VolumeClass
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.client.interface import Client, M
from services.apimachinery.errors import NotFound
from tests.integration.core.apiserver.conftest import CoreServer
from tests.support.etcd import running_etcd
from tests.support.eventually import eventually
from tests.support.processes import directory, start, stop
from tests.support.runtimes import MachineRuntime, VolumeRuntime, serving

WITHIN = 60.0
GROUPS = {"machine": "compute.ironcore.dev:system", "volume": "storage.ironcore.dev:system"}


class Poollet:
    """`ferrite core machinepoollet` or `volumepoollet`, under the identity that its role is made for."""

    def __init__(self, server: CoreServer, word: str, pool: str, socket: Path) -> None:
        group = GROUPS[word]
        tls = server.identity(pool, Identity(f"{group}:{word}pool:{pool}", (f"{group}:{word}pools",)))
        self._arguments = [sys.executable, "-m", f"services.core.poollets.{word}"]
        self._arguments += [f"--core.address={server.grpc}", f"--core.tls-ca={tls.ca}", f"--core.tls-cert={tls.cert}"]
        self._arguments += [f"--core.tls-key={tls.key}", f"--{word}-pool-name={pool}", f"--provider-id=test://{pool}"]
        self._arguments += [f"--{word}-runtime-endpoint=unix:{socket}", "--log-format=text"]
        self._arguments += ["--heartbeat-interval=1"] if word == "machine" else ["--probe-interval=1"]
        self.log = server.place / f"{pool}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns at once."""
        self._process = start(self._arguments, self.log)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        return stop(self._process)


class Cell:
    """One namespace, pool and class, all of one name, with the runtime of the pool."""

    def __init__(self, client: Client, token: str, runtime: Any, poollet: Poollet) -> None:
        self.client, self.token, self.runtime, self.poollet = client, token, runtime, poollet

    async def get(self, kind: type[M], name: str) -> M:
        """An object of the namespace."""
        return await self.client.get(kind, name, self.token)

    async def seen(self, kind: type[M], name: str, holds: Callable[[M], object]) -> M:
        """The object once `holds` is true of it."""

        last: list[M] = []

        async def look() -> bool:
            last[:] = [await self.get(kind, name)]
            if holds(last[0]):
                return True
            raise AssertionError(str(last[0]))

        await self.happens(look)
        return last[0]

    async def gone(self, kind: type[Any], name: str) -> None:
        """Waits until the object is no more."""

        async def look() -> bool:
            try:
                await self.get(kind, name)
            except NotFound:
                return True
            return False

        await self.happens(look)

    async def happens(self, condition: Callable[[], object | Awaitable[object]]) -> None:
        """Waits for something, at the runtime perhaps."""

        async def look() -> bool:
            value = condition()
            return bool(await value) if inspect.isawaitable(value) else bool(value)

        assert await eventually(look, WITHIN)

    async def machine(self, name: str, **spec: Any) -> Machine:
        """A machine that is bound to the pool, as the scheduler would."""
        machine = Machine(metadata=ObjectMeta(name=name, namespace=self.token))
        machine.spec.MergeFrom(type(machine.spec)(**spec))
        machine.spec.machine_class_ref.name = machine.spec.machine_pool_ref.name = self.token
        return await self.client.create(machine)

    async def network(self, provider_id: str = "net-1") -> None:
        """The network `blue`."""
        network = Network(metadata=ObjectMeta(name="blue", namespace=self.token))
        network.spec.provider_id = provider_id
        await self.client.create(network)

    async def interface(self, name: str) -> NetworkInterface:
        """A free interface in the network `blue`."""
        interface = NetworkInterface(metadata=ObjectMeta(name=name, namespace=self.token))
        interface.spec.network_ref.name = "blue"
        interface.spec.ip_families.append("IPv4")
        interface.spec.ips.add(value="10.0.0.5")
        return await self.client.create(interface)

    async def volume(self, name: str, size: str = "1Gi", *, pool: bool = True) -> Volume:
        """A volume of the class, in the pool unless told otherwise."""
        volume = Volume(metadata=ObjectMeta(name=name, namespace=self.token))
        volume.spec.volume_class_ref.name = self.token
        volume.spec.resources["storage"] = size
        if pool:
            volume.spec.volume_pool_ref.name = self.token
        return await self.client.create(volume)

    async def available(self, volume: Volume) -> None:
        """Reports a volume as a volumepoollet would."""
        volume.status.state = "Available"
        volume.status.access.driver, volume.status.access.handle = "test", f"pool/{volume.metadata.name}"
        await self.client.update_status(volume)


@pytest.fixture(scope="session")
def server() -> Iterator[CoreServer]:
    with running_etcd() as etcd, directory("poollets") as place:
        running = CoreServer(etcd, place)
        running.start()
        yield running
        running.stop()


@pytest.fixture
async def client(server: CoreServer) -> AsyncIterator[Client]:
    made = GrpcClient(server.grpc, tls=server.admin_tls, manager="tests")
    yield made
    await made.close()


@asynccontextmanager
async def running_cell(server: CoreServer, client: Client, word: str) -> AsyncIterator[Cell]:
    token = f"{word[0]}-{secrets.token_hex(4)}"
    await client.create(Namespace(metadata=ObjectMeta(name=token)))
    runtime: MachineRuntime | VolumeRuntime
    if word == "machine":
        await client.create(MachineClass(metadata=ObjectMeta(name=token), capabilities={"cpu": "2", "memory": "1Gi"}))
        runtime = MachineRuntime({token: ({"cpu": 2, "memory": 1 << 30}, 10)})
    else:
        volume_class = VolumeClass(metadata=ObjectMeta(name=token), capabilities={"tps": "1", "iops": "100"})
        volume_class.resize_policy = "ExpandOnly"
        await client.create(volume_class)
        runtime = VolumeRuntime({token: (1, 100, 10 << 30)})
    socket = server.place / f"{token}.sock"
    poollet = Poollet(server, word, token, socket)
    async with serving(runtime, f"unix:{socket}"):
        poollet.start()
        try:
            yield Cell(client, token, runtime, poollet)
        finally:
            runtime.answer_creations.set()
            poollet.stop()
            print(poollet.log.read_text()[-20_000:])


@pytest.fixture
async def machines(server: CoreServer, client: Client) -> AsyncIterator[Cell]:
    async with running_cell(server, client, "machine") as cell:
        yield cell


@pytest.fixture
async def volumes(server: CoreServer, client: Client) -> AsyncIterator[Cell]:
    async with running_cell(server, client, "volume") as cell:
        yield cell
