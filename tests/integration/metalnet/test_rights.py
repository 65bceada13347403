"""The partition's API as in production: TLS, and the core API server decides who may do what and where."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrite.dev.certificates import Authority, Identity
from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1.namespace_pb2 import Namespace
from protos.k8s.core.v1.node_pb2 import Node
from protos.metalnet.v1alpha1.network_pb2 import Network
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.errors import Forbidden, NotFound
from services.common.tls import TlsFiles
from tests.integration.metalnet.cluster import Process
from tests.support.etcd import running_etcd
from tests.support.eventually import eventually
from tests.support.processes import directory, free_port


class Servers:
    """A core and a metalnet API server, and an agent without a data plane."""

    def __init__(self, etcd: str, place: Path) -> None:
        self._authority = Authority(place / "pki")
        self.core, self.metalnet = (f"127.0.0.1:{free_port()}" for _ in range(2))
        keys = place / "keys"
        keys.write_text(f"one:{base64.b64encode(os.urandom(32)).decode()}\n")
        server = self._flags(self.files("server", "server", hosts=("127.0.0.1",)), "tls")
        delegate = self.files("metalnet-apiserver", "metalnet-apiserver", "core.ironcore.dev:system:apiservers")
        agent = self.files("agent", "hv1", "metalnet.ironcore.dev:system:agents")
        common = [f"--etcd-endpoints={etcd}", "--compaction-interval=0", *server]
        self.processes = [
            Process("core", place, ["services.core.apiserver", *self._listen(self.core), *common,
                                    f"--encryption-key-file={keys}"]),
            Process("metalnet", place, ["services.metalnet.apiserver", *self._listen(self.metalnet), *common,
                                        f"--core.address={self.core}", *self._flags(delegate, "core.tls")]),
            Process("agent", place, ["services.metalnet.agent", "--node-name=hv1", "--tapdevice-mod",
                                     f"--metalnet-dir={place}", f"--dp-service-address=unix:{place}/none",
                                     f"--metalnet.address={self.metalnet}", *self._flags(agent, "metalnet.tls")]),
        ]  # fmt: skip

    def files(self, name: str, user: str, *groups: str, hosts: tuple[str, ...] = ()) -> TlsFiles:
        cert, key = self._authority.issue(name, Identity(user, groups, hosts))
        return TlsFiles(self._authority.certificate_file, cert, key)

    def client(self, address: str, *groups: str) -> GrpcClient:
        return GrpcClient(address, tls=self.files("-".join(groups) or "nobody", "somebody", *groups), manager="tester")

    @staticmethod
    def _flags(files: TlsFiles, prefix: str) -> list[str]:
        return [f"--{prefix}-ca={files.ca}", f"--{prefix}-cert={files.cert}", f"--{prefix}-key={files.key}"]

    @staticmethod
    def _listen(grpc: str) -> list[str]:
        return [f"--grpc-listen={grpc}", f"--https-listen=127.0.0.1:{free_port()}"]


@pytest.fixture
def servers() -> Iterator[Servers]:
    with running_etcd() as etcd, directory("metalnet") as place:
        made = Servers(etcd, place)
        for process in made.processes:
            process.start()
        try:
            yield made
        finally:
            for process in reversed(made.processes):
                process.stop()
                print(f"--- {process.name}\n{process.log[-4000:]}")


def network(namespace: str) -> Network:
    made = Network()
    made.metadata.name, made.metadata.namespace, made.spec.id = "blue", namespace, 2001
    return made


async def test_rights_and_namespaces_are_those_of_core(servers: Servers) -> None:
    admin = servers.client(servers.metalnet, "system:masters")
    stranger = servers.client(servers.metalnet)
    core = servers.client(servers.core, "system:masters")

    async def registered() -> bool:
        node = await admin.get(Node, "hv1")
        assert [(each.type, each.status, each.reason) for each in node.status.conditions] == [
            ("Ready", "False", "DataplaneUnavailable")
        ]
        return bool(await admin.get(Lease, "hv1", "kube-node-lease"))

    await eventually(registered, 30, every=0.2)
    with pytest.raises(Forbidden, match="somebody"):
        await stranger.list(Network)
    with pytest.raises(NotFound, match="metalnet-system"):
        await admin.create(network("metalnet-system"))
    namespace = Namespace()
    namespace.metadata.name = "metalnet-system"
    await core.create(namespace)
    await admin.create(network("metalnet-system"))
    for client in (admin, stranger, core):
        await client.close()
