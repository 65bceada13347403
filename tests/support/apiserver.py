"""A real API server over a real etcd, with mTLS, in the test's process."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrite.dev.certificates import Authority, Identity
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.client.interface import Client
from services.apimachinery.client.kubeconfig import Access
from services.apimachinery.client.rest import RestClient
from services.apimachinery.server.app import ApiServer
from services.apimachinery.server.auth.authorizer import AllowAll
from services.apimachinery.server.resource import Definition
from services.apimachinery.server.settings import ApiServerSettings
from services.common.tls import TlsFiles
from tests.support.processes import free_port


@dataclass
class TestServer:
    """Can be stopped and started again on the same addresses and etcd."""

    __test__ = False

    etcd: str
    directory: Path
    definitions: Sequence[Definition]
    prefix: str = ""
    """What the server's keys in etcd start with; one of its own by default, since tests share an etcd."""

    def __post_init__(self) -> None:
        self._authority = Authority(self.directory)
        self.prefix = self.prefix or f"/ft-{secrets.token_hex(6)}"
        self.rest, self.grpc = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.server_tls = self.certificate("server", Identity("server", hosts=("127.0.0.1",)))
        self.client_tls = self.certificate("client", Identity("tester", ("system:masters",)))
        self._running = AsyncExitStack()

    def certificate(self, name: str, identity: Identity) -> TlsFiles:
        """Files signed by the server's authority."""
        cert, key = self._authority.issue(name, identity)
        return TlsFiles(self._authority.certificate_file, cert, key)

    async def start(self) -> None:
        """Serves until `stop`."""
        settings = ApiServerSettings.model_construct(
            https_listen=self.rest,
            grpc_listen=self.grpc,
            tls_ca=str(self.server_tls.ca),
            tls_cert=str(self.server_tls.cert),
            tls_key=str(self.server_tls.key),
            etcd_endpoints=self.etcd,
            etcd_prefix=self.prefix,
            compaction_interval=0,
        )
        server = ApiServer(settings, self.definitions, authorizer=lambda resources: AllowAll())
        await self._running.enter_async_context(server.running())

    async def stop(self) -> None:
        """Ends the server; its etcd stays."""
        await self._running.aclose()

    def access(self) -> Access:
        """How the REST door is reached."""
        files = self.client_tls
        return Access(
            f"https://{self.rest}",
            ca=files.ca.read_bytes(),
            cert=files.cert.read_bytes(),
            key=files.key.read_bytes(),
        )

    def client(self, transport: str, **options: Any) -> Client:
        """A client of one of the doors: "grpc" or "rest"."""
        if transport == "grpc":
            return GrpcClient(self.grpc, tls=self.client_tls, manager="tester", **options)
        return RestClient(self.access(), manager="tester", **options)


@asynccontextmanager
async def running_apiserver(
    etcd: str, directory: Path, definitions: Sequence[Definition], *, prefix: str = ""
) -> AsyncIterator[TestServer]:
    """A server of these kinds while the context is open."""
    server = TestServer(etcd, directory, definitions, prefix)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
