"""A real core API server and the controllers as processes; the tests play the users and the poollets."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ferrite.dev.certificates import Identity
from protos.common.v1alpha1.common_pb2 import Condition
from protos.compute.v1alpha1.machine_pb2 import Machine, MachineNetworkInterface
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.k8s.core.v1.namespace_pb2 import Namespace
from protos.k8s.events.v1.event_pb2 import Event
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.client.interface import Client
from tests.integration.core.apiserver.conftest import CoreServer
from tests.support.etcd import running_etcd
from tests.support.processes import directory, start, stop


class Controllers:
    """The process `ferrite core controllers`, under the identity that its role is made for."""

    def __init__(self, server: CoreServer, name: str, *flags: str) -> None:
        identity = Identity(name, ("core.ironcore.dev:system:controllers",))
        tls = server.identity(name, identity)
        self._arguments = [sys.executable, "-m", "services.core.controllers", f"--core.address={server.grpc}"]
        self._arguments += [f"--core.tls-ca={tls.ca}", f"--core.tls-cert={tls.cert}", f"--core.tls-key={tls.key}"]
        self._arguments += ["--log-format=text", *flags]
        self.log = server.place / f"{name}.log"
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


@pytest.fixture(scope="session")
def server() -> Iterator[CoreServer]:
    with running_etcd() as etcd, directory("core-controllers") as place:
        running = CoreServer(etcd, place)
        running.start()
        yield running
        running.stop()


@pytest.fixture(scope="session")
def controllers(server: CoreServer) -> Iterator[Controllers]:
    # The tests' pools send no heartbeats.
    running = Controllers(server, "controllers", "--machine-pool-lifecycle-grace-period=3600")
    running.start()
    yield running
    print(running.log.read_text()[-20_000:])
    running.stop()


@pytest.fixture
async def client(server: CoreServer, controllers: Controllers) -> AsyncIterator[Client]:
    """The administrator, while the controllers run."""
    made = GrpcClient(server.grpc, tls=server.admin_tls, manager="tests")
    yield made
    await made.close()


@pytest.fixture
def token() -> str:
    """Keeps the cluster-scoped objects of tests apart: pools are selected by it."""
    return f"t-{secrets.token_hex(4)}"


@pytest.fixture
async def namespace(client: Client, token: str) -> str:
    await client.create(Namespace(metadata=ObjectMeta(name=token)))
    return token


class User:
    """What tests create, in one namespace."""

    def __init__(self, client: Client, token: str) -> None:
        self.client, self.token = client, token

    async def pool(self, name: str, machines: int, *, ready: bool = True, taint: str = "", effect: str = "") -> str:
        """A machine pool that offers so many machines of the test's class, as its poollet would publish it."""
        pool = MachinePool(metadata=ObjectMeta(name=f"{self.token}-{name}", labels={"test": self.token}))
        if taint:
            pool.spec.taints.add(key=taint, effect=effect)
        pool = await self.client.create(pool)
        pool.status.capacity[f"class/machine.{self.token}"] = str(machines)
        pool.status.conditions.append(Condition(type="Ready", status="True" if ready else "False", reason="Test"))
        return (await self.client.update_status(pool)).metadata.name

    def machine(self, name: str) -> Machine:
        """A machine of the test's class, for the test's pools."""
        machine = Machine(metadata=ObjectMeta(name=name, namespace=self.token))
        machine.spec.machine_class_ref.name = self.token
        machine.spec.machine_pool_selector["test"] = self.token
        return machine

    def interface(self, parent: str) -> MachineNetworkInterface:
        """An ephemeral interface with an ephemeral address from a parent prefix."""
        item = MachineNetworkInterface(name="nic")
        spec = item.ephemeral.network_interface_template.spec
        spec.network_ref.name = "blue"
        spec.ip_families.append("IPv4")
        spec.ips.add().ephemeral.prefix_template.spec.parent_ref.name = parent
        return item

    async def root(self, name: str, prefix: str, **labels: str) -> Prefix:
        """A root prefix."""
        root = Prefix(metadata=ObjectMeta(name=name, namespace=self.token, labels=labels))
        root.spec.prefix = prefix
        return await self.client.create(root)

    async def child(self, name: str, *, length: int = 0, prefix: str = "", parent: str = "", **selector: str) -> Prefix:
        """A child prefix, of a named parent or of one found by labels."""
        child = Prefix(metadata=ObjectMeta(name=name, namespace=self.token))
        child.spec.ip_family, child.spec.prefix_length, child.spec.prefix = "IPv4", length, prefix
        if parent:
            child.spec.parent_ref.name = parent
        else:
            child.spec.parent_selector.match_labels.update(selector)
        return await self.client.create(child)

    async def pool_of(self, name: str) -> str:
        """The pool that a machine is bound to; empty while it is not."""
        return (await self.client.get(Machine, name, self.token)).spec.machine_pool_ref.name

    async def phase_of(self, name: str) -> str:
        """A prefix's phase."""
        return (await self.client.get(Prefix, name, self.token)).status.phase

    async def reasons(self, kind: str, name: str) -> set[str]:
        """The reasons of the events about an object; a name ending in `-` stands for all that begin so."""
        page = await self.client.list(Event, self.token)
        return {
            event.reason
            for event in page.items
            if event.regarding.kind == kind
            and (event.regarding.name == name or (name.endswith("-") and event.regarding.name.startswith(name)))
        }


@pytest.fixture
def user(client: Client, namespace: str) -> User:
    return User(client, namespace)


@pytest.fixture
def place(server: CoreServer) -> Path:
    return server.place
