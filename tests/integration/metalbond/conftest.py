"""A real server process on loopback, and raw peers that speak frames by hand."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.metalbond import wire
from services.metalbond.wire import Frame, Framer, Hello, Keepalive
from tests.support.eventually import eventually

STEP_SECONDS = 30.0
INTERVAL = 60
"""Seconds of keepalives that a server and a raw peer agree on: a raw peer may be silent for long on a busy machine."""


@dataclass
class ServerProcess:
    """`ferrite metalbond server` as its own process; `flags` hold for every start."""

    port: int
    folder: Path
    flags: list[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"[::1]:{self.port}"

    @property
    def grpc_address(self) -> str:
        return f"unix:{self.folder / 'grpc.sock'}"

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    async def start(self) -> None:
        self._launch()
        await eventually(self._accepts)

    def _launch(self) -> None:
        command = [sys.executable, "-m", "services.metalbond", "server", "--listen", self.address]
        command += ["--grpc-listen", self.grpc_address, f"--keepalive={INTERVAL}", *self.flags]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)

    async def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, STEP_SECONDS)

    async def _accepts(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            _, writer = await asyncio.open_connection("::1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@dataclass
class RawPeer:
    """Speaks the protocol frame by frame."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    framer: Framer = field(default_factory=Framer)
    frames: list[Frame] = field(default_factory=list)

    def send(self, data: bytes | Frame) -> None:
        self.writer.write(data if isinstance(data, bytes) else wire.encode(data))

    async def receive(self, count: int, within: float = STEP_SECONDS) -> list[Frame]:
        async with asyncio.timeout(within):
            while len(self.frames) < count:
                data = await self.reader.read(65536)
                assert data, "closed by the server"
                self.frames += [wire.decode(*frame) for frame in self.framer.feed(data)]
        taken, self.frames = self.frames[:count], self.frames[count:]
        return taken

    async def handshake(self) -> None:
        self.send(Hello(INTERVAL))
        assert await self.receive(1) == [Hello(INTERVAL, True)]
        self.send(Keepalive())
        assert await self.receive(1) == [Keepalive()]

    async def closed(self, within: float = STEP_SECONDS) -> None:
        """Returns when the server ended the connection."""
        async with asyncio.timeout(within):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass


@asynccontextmanager
async def raw_peer(server: ServerProcess) -> AsyncIterator[RawPeer]:
    reader, writer = await asyncio.open_connection("::1", server.port)
    try:
        yield RawPeer(reader, writer)
    finally:
        writer.close()


def free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
async def make_server(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[ServerProcess]]]:
    servers: list[ServerProcess] = []

    async def make(*flags: str) -> ServerProcess:
        folder = tmp_path / f"server{len(servers)}"
        folder.mkdir()
        servers.append(ServerProcess(free_port(), folder, list(flags)))
        await servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        await server.kill()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """For tests that leave nothing behind in it."""
    server = ServerProcess(free_port(), tmp_path_factory.mktemp("shared"), ["--grace", "0"])
    asyncio.run(server.start())
    yield server
    asyncio.run(server.kill())


@pytest.fixture
async def server(make_server: Callable[..., Awaitable[ServerProcess]]) -> ServerProcess:
    return await make_server("--grace", "5")
