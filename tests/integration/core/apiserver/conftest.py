"""The core API server as a process of its own, with mTLS, and kubectl in two versions."""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ferrite.dev.certificates import Authority, Identity
from services.common.tls import TlsFiles
from tests.support.etcd import running_etcd
from tests.support.kubectl import binary
from tests.support.processes import directory, free_port, start, stop

START_SECONDS = 60.0


class CoreServer:
    """One server process; it can be killed and started again on the same addresses."""

    def __init__(self, etcd: str, place: Path) -> None:
        self.etcd, self.place = etcd, place
        self.prefix = f"/ft-{secrets.token_hex(6)}"
        self.rest, self.grpc = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self._authority = Authority(place / "pki")
        self.server_tls = self.identity("server", Identity("ferrite-core", hosts=("127.0.0.1", "localhost")))
        self.admin_tls = self.identity("admin", Identity("admin", ("system:masters",)))
        self.keys = place / "keys"
        self.keys.write_text(f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
        self.log = place / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def identity(self, name: str, identity: Identity) -> TlsFiles:
        """A certificate of the cluster."""
        cert, key = self._authority.issue(name, identity)
        return TlsFiles(self._authority.certificate_file, cert, key)

    def kubeconfig(self, tls: TlsFiles) -> Path:
        """A kubeconfig with this client certificate."""
        path = tls.cert.with_suffix(".kubeconfig")
        cluster = {"server": f"https://{self.rest}", "certificate-authority": str(tls.ca)}
        user = {"client-certificate": str(tls.cert), "client-key": str(tls.key)}
        context = {"cluster": "c", "user": "u"}
        tree = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": context}],
        }
        path.write_text(yaml.safe_dump(tree))
        return path

    def start(self) -> None:
        """Returns when the server is ready and has made what must exist from the start."""
        tls = self.server_tls
        arguments = [sys.executable, "-m", "services.core.apiserver", "--https-listen", self.rest]
        arguments += ["--grpc-listen", self.grpc, "--etcd-endpoints", self.etcd, "--etcd-prefix", self.prefix]
        arguments += ["--tls-ca", str(tls.ca), "--tls-cert", str(tls.cert), "--tls-key", str(tls.key)]
        arguments += ["--encryption-key-file", str(self.keys)]
        self.process = start(arguments, self.log)
        context = self.admin_tls.client_context()
        self._until(lambda: self._get("/readyz", context) == b"ok")
        self._until(lambda: b"default" in self._get("/api/v1/namespaces/default", context))

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        return stop(self.process)

    def _get(self, path: str, context: ssl.SSLContext) -> bytes:
        with urllib.request.urlopen(f"https://{self.rest}{path}", context=context, timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def _until(self, done: object) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if done():  # type: ignore[operator]
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"the server is not ready:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)


class Kubectl:
    """A kubectl binary with a kubeconfig."""

    def __init__(self, binary: Path, config: Path, home: Path) -> None:
        self._binary, self._config, self._home = binary, config, home

    async def __call__(self, *arguments: str, stdin: str = "", fails: bool = False, **environment: str) -> str:
        """Standard output; with `fails` standard error of a call that must fail."""
        process = await asyncio.create_subprocess_exec(
            self._binary,
            f"--kubeconfig={self._config}",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(self._home), "PATH": "/usr/bin:/bin", **environment},
        )
        async with asyncio.timeout(60):
            output, errors = await process.communicate(stdin.encode())
        text = f"kubectl {' '.join(arguments)}: {process.returncode}\n{output.decode()}\n{errors.decode()}"
        assert (process.returncode != 0) is fails, text
        return errors.decode() if fails else output.decode()

    async def watch(self, *arguments: str) -> asyncio.subprocess.Process:
        """A running `kubectl get -w`, its output on a pipe."""
        return await asyncio.create_subprocess_exec(
            self._binary,
            f"--kubeconfig={self._config}",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"HOME": str(self._home), "PATH": "/usr/bin:/bin"},
        )


@pytest.fixture(scope="session")
def core_etcd() -> Iterator[str]:
    with running_etcd() as address:
        yield address


@pytest.fixture(scope="session")
def core(core_etcd: str) -> Iterator[CoreServer]:
    """A server that all tests share; tests use namespaces and names of their own."""
    with directory("core") as place:
        server = CoreServer(core_etcd, place)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def old_kubectl() -> Path:
    """Debian 12's kubectl, unpacked below build/ at first use."""
    return binary("1.20")


@pytest.fixture(params=["1.20", "current"])
def kubectl(request: pytest.FixtureRequest, core: CoreServer, old_kubectl: Path, tmp_path: Path) -> Kubectl:
    """The administrator's kubectl."""
    current = shutil.which("kubectl")
    assert current is not None
    chosen = old_kubectl if request.param == "1.20" else Path(current)
    return Kubectl(chosen, core.kubeconfig(core.admin_tls), tmp_path)


@pytest.fixture
def old(core: CoreServer, old_kubectl: Path, tmp_path: Path) -> Kubectl:
    """The administrator's kubectl of Debian 12."""
    return Kubectl(old_kubectl, core.kubeconfig(core.admin_tls), tmp_path)


@pytest.fixture
def new_kubectl(core: CoreServer, tmp_path: Path) -> Kubectl:
    """The administrator's current kubectl."""
    current = shutil.which("kubectl")
    assert current is not None
    return Kubectl(Path(current), core.kubeconfig(core.admin_tls), tmp_path)


@pytest.fixture
async def namespace(new_kubectl: Kubectl) -> str:
    """A namespace of the test's own."""
    name = f"t-{secrets.token_hex(4)}"
    await new_kubectl("create", "namespace", name)
    return name
