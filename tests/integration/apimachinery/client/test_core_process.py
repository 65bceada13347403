"""Both transports against the core API server as it is run in production: a process, mTLS, RBAC, and a kill -9."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ferrite.dev.certificates import Authority, Identity
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.core.v1.config_map_pb2 import ConfigMap
from protos.k8s.core.v1.namespace_pb2 import Namespace
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.connect import ServerSettings, connect
from services.apimachinery.client.interface import Client
from services.apimachinery.client.kubeconfig import Access, write
from services.apimachinery.errors import Forbidden, NotFound
from services.apimachinery.runtime.informer import Informer
from services.apimachinery.runtime.recorder import EventRecorder
from tests.support.eventually import eventually
from tests.support.processes import free_port, start, stop

ROOT = Path(__file__).parents[4]
ADMINISTRATOR = Identity("admin", ("system:masters",))
NOBODY = Identity("nobody", ("strangers",))


@dataclass
class CoreServer:
    etcd: str
    place: Path
    rest: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    grpc: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        cert, key = self.authority.issue("server", Identity("core", hosts=("127.0.0.1",)))
        (self.place / "keys").write_text(f"k1:{'A' * 43}=\n")
        self.process = start(
            [
                sys.executable,
                "-m",
                "services.core.apiserver",
                f"--https-listen={self.rest}",
                f"--grpc-listen={self.grpc}",
                f"--tls-ca={self.authority.certificate_file}",
                f"--tls-cert={cert}",
                f"--tls-key={key}",
                f"--etcd-endpoints={self.etcd}",
                f"--etcd-prefix=/ft-{self.place.name}",
                f"--encryption-key-file={self.place / 'keys'}",
            ],
            self.place / "log",
            PYTHONPATH=str(ROOT),
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        return stop(self.process, number)

    @property
    def authority(self) -> Authority:
        return Authority(self.place)

    def client(self, transport: str, identity: Identity = ADMINISTRATOR) -> Client:
        cert, key = self.authority.issue(identity.user, identity)
        ca = self.authority.certificate_file
        if transport == "grpc":
            settings = ServerSettings(address=self.grpc, tls_ca=str(ca), tls_cert=str(cert), tls_key=str(key))
            return connect(settings, manager="tester")
        path = self.place / f"{identity.user}.kubeconfig"
        pem = {"ca": ca.read_bytes(), "cert": cert.read_bytes(), "key": key.read_bytes()}
        write(path, {"core": Access(f"https://{self.rest}", **pem)}, "core")
        return connect(ServerSettings(kubeconfig=str(path)), manager="tester")


@pytest.fixture
async def core(etcd: str, tmp_path: Path) -> AsyncIterator[CoreServer]:
    server = CoreServer(etcd, tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def config(name: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"))


async def test_a_controllers_day_and_the_servers_death(core: CoreServer, transport: str) -> None:
    client = core.client(transport)
    await eventually(lambda: client.get(Namespace, "default"), within=30)
    informer = Informer(client, ConfigMap)
    task = asyncio.create_task(informer.run())
    await informer.synced()

    pool = await client.create(MachinePool(metadata=ObjectMeta(name="p"), spec={"provider_id": "x://p"}))
    pool.status.state = "Ready"
    assert (await client.update_status(pool)).status.state == "Ready"
    recorder = EventRecorder(client, "ferrite.test/day")
    recorder.event(pool, "Normal", "Ready", "the pool is ready", action="Report")
    await recorder.flush()
    with pytest.raises(NotFound, match="nowhere"):
        await client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace="nowhere")))
    await client.create(config("before"))
    await eventually(lambda: informer.get("before", "default"))

    core.stop(signal.SIGKILL)
    core.start()
    await eventually(lambda: client.get(MachinePool, "p"), within=30)
    await client.create(config("after"))
    await client.delete(ConfigMap, "before", "default")
    await eventually(lambda: {obj.metadata.name for obj in informer.items()} == {"after"}, within=15)

    task.cancel()
    await asyncio.wait([task])
    await client.close()
    assert core.stop() == 0


async def test_rights_are_those_of_the_certificate(core: CoreServer, transport: str) -> None:
    administrator, nobody = core.client(transport), core.client(transport, NOBODY)
    await eventually(lambda: administrator.get(Namespace, "default"), within=30)
    with pytest.raises(Forbidden, match="nobody"):
        await nobody.list(ConfigMap)
    with pytest.raises(Forbidden, match="nobody"):
        async for _ in nobody.watch(ConfigMap):
            pass
    await administrator.close()
    await nobody.close()
