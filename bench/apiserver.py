"""`make bench-apiserver`: the core API server as a process of its own over a real etcd, with mTLS, seen from clients.

Clients and etcd share the machine with the server, as the report says; the server's own CPU time is shown beside.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import re
import secrets
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import orjson

from bench.report import Report, ahead_of_others, median
from ferrite.dev.certificates import Authority, Identity
from protos.api.v1 import resources_pb2 as api
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.k8s.core.v1.namespace_pb2 import Namespace
from services.apimachinery.client.grpc import GrpcClient
from services.apimachinery.errors import AlreadyExists
from services.apimachinery.kinds import kind_of
from services.apimachinery.schema.converter import from_tree
from services.common.tls import TlsFiles
from tests.support.etcd import running_etcd
from tests.support.processes import directory, free_port, start, stop

NAMESPACE: Final = "bench"
PATH: Final = "/apis/compute.ironcore.dev/v1alpha1/machines"
OBJECTS: Final = 10_000
PATCHES: Final = 3_000
IN_FLIGHT: Final = 64
WATCHERS: Final = 200
EVENTS: Final = 100
EVENT_SECONDS: Final = 0.1  # between two events
LISTS: Final = 5
START_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Server:
    """A running API server."""

    rest: str
    grpc: str
    tls: TlsFiles
    pid: int

    def cpu(self) -> float:
        """Seconds of CPU time that it used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def ssl_context(self) -> ssl.SSLContext:
        """A client's."""
        context = ssl.create_default_context(cafile=str(self.tls.ca))
        context.load_cert_chain(str(self.tls.cert), str(self.tls.key))
        return context


@contextmanager
def running_server() -> Iterator[Server]:
    """The core API server and its etcd."""
    with running_etcd() as etcd, directory("bench-api") as place:
        authority = Authority(place)
        cert, key = authority.issue("server", Identity("server", hosts=("127.0.0.1",)))
        client = authority.issue("client", Identity("bench", ("system:masters",)))
        secret = place / "encryption.key"
        secret.write_text(f"bench:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
        rest, grpc_address = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        process = start(
            [
                *[sys.executable, "-m", "ferrite.cli.main", "core", "apiserver"],
                *["--https-listen", rest, "--grpc-listen", grpc_address, "--etcd-endpoints", etcd],
                *["--tls-ca", authority.certificate_file, "--tls-cert", cert, "--tls-key", key],
                *["--encryption-key-file", secret, "--log-level", "warning"],
            ],
            place / "log",
        )
        try:
            tls = TlsFiles(authority.certificate_file, *client)
            asyncio.run(_wait(grpc_address, tls, process, place / "log"))
            yield Server(rest, grpc_address, tls, process.pid)
        finally:
            stop(process)


async def _wait(address: str, tls: TlsFiles, process: subprocess.Popen[bytes], log: Path) -> None:
    client = GrpcClient(address, tls=tls, manager="bench")
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                made = Namespace()
                made.metadata.name = NAMESPACE
                await client.create(made)
                return
            except AlreadyExists:
                return
            except Exception:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(
                        f"the API server did not start: {await asyncio.to_thread(log.read_text)}"
                    ) from None
                await asyncio.sleep(0.1)
    finally:
        await client.close()


def machine(number: int) -> Machine:
    """A machine as users write them: labels, one NIC with an address, a local disk and a Ceph volume."""
    name = f"machine-{number:05}"
    address = {"ephemeral": {"prefixTemplate": {"spec": {"prefixLength": 32, "parentRef": {"name": "blue"}}}}}
    volume = {"volumeClassRef": {"name": "fast"}, "resources": {"storage": "10Gi"}}
    nic = {"networkRef": {"name": "blue"}, "ipFamilies": ["IPv4"], "ips": [address]}
    tree = {
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"app": f"app-{number % 50}", "tier": "web", "owner": "team-with-a-name"},
            "annotations": {"example.com/description": "one of many machines that a bench declares " * 3},
        },
        "spec": {
            "machineClassRef": {"name": "tiny"},
            "power": "On",
            "ignitionRef": {"name": name},
            "volumes": [
                {"name": "root", "localDisk": {"image": "registry.example.com/images/debian:12"}},
                {"name": "data", "ephemeral": {"volumeTemplate": {"spec": volume}}},
            ],
            "networkInterfaces": [{"name": "blue", "ephemeral": {"networkInterfaceTemplate": {"spec": nic}}}],
        },
    }
    return from_tree(kind_of(Machine), tree)


class Writer:
    """Sends requests that were encoded beforehand, so that little of the CPU goes to the client."""

    def __init__(self, server: Server) -> None:
        files = (server.tls.ca, server.tls.key, server.tls.cert)
        self._channel = grpc.aio.secure_channel(
            server.grpc, grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        )
        self._methods: dict[str, Any] = {
            name: self._channel.unary_unary(f"/ferrite.api.v1.Resources/{name}") for name in ("Create", "Patch")
        }

    async def call(self, method: str, request: bytes) -> None:
        await self._methods[method](request, timeout=30)

    async def close(self) -> None:
        await self._channel.close()


RESOURCE: Final = api.Resource(group="compute.ironcore.dev", version="v1alpha1", plural="machines")


def create_request(number: int) -> bytes:
    """Of one machine."""
    write = api.ObjectWrite(resource=RESOURCE, options=api.WriteOptions(field_manager="bench"))
    write.object.typed.Pack(machine(number))
    return write.SerializeToString()


def patch_request(number: int, status: dict[str, Any], annotations: dict[str, str] | None = None) -> bytes:
    """A merge patch of a status, as poollets send them; with annotations, of those."""
    tree: dict[str, Any] = {"metadata": {"annotations": annotations}} if annotations else {"status": status}
    return api.PatchRequest(
        resource=RESOURCE,
        namespace=NAMESPACE,
        name=f"machine-{number:05}",
        type=api.MERGE_PATCH,
        patch=orjson.dumps(tree),
        subresource="" if annotations else "status",
        options=api.WriteOptions(field_manager="bench"),
    ).SerializeToString()


async def _flood(send: Callable[[bytes], Awaitable[None]], requests: list[bytes]) -> float:
    """Seconds for all, IN_FLIGHT at a time."""
    queue = iter(requests)

    async def worker() -> None:
        for request in queue:
            await send(request)

    started = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return time.monotonic() - started


async def _writes(server: Server, report: Report) -> dict[str, float]:
    writer = Writer(server)
    figures = {}
    try:
        await _flood(lambda request: writer.call("Create", request), [create_request(OBJECTS + n) for n in range(200)])
        before = server.memory()
        creates = [create_request(number) for number in range(OBJECTS)]
        state = {"state": "Running", "machineID": "ferrite://bench/0123456789", "observedGeneration": 1}
        patches = [patch_request(number, state) for number in range(PATCHES)]
        for key, method, requests in (("creates_per_s", "Create", creates), ("patches_per_s", "Patch", patches)):
            cpu = server.cpu()
            seconds = await _flood(lambda request, method=method: writer.call(method, request), requests)
            figures[key] = len(requests) / seconds
            each = (server.cpu() - cpu) / len(requests) * 1e3
            report.row(key, figures[key], f"{len(requests)} by gRPC, {IN_FLIGHT} in flight", f"{each:.2f} ms each")
        figures["bytes_per_object"] = (server.memory() - before) / OBJECTS
        stored = machine(0).ByteSize()
        report.row("bytes_per_object", figures["bytes_per_object"], f"resident; {stored} bytes as sent", "")
    finally:
        await writer.close()
    return figures


async def _lists(server: Server, report: Report) -> dict[str, float]:
    speeds: list[float] = []
    memory = server.memory()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=server.ssl_context())) as session:
        for _ in range(LISTS + 1):
            cpu, started, size = server.cpu(), time.monotonic(), 0
            async with session.get(f"https://{server.rest}{PATH}", headers={"Accept": "application/json"}) as answer:
                answer.raise_for_status()
                async for chunk in answer.content.iter_any():
                    size += len(chunk)
            speeds.append(size / (time.monotonic() - started) / 1e6)
            used = server.cpu() - cpu
    report.row("first list", speeds[0], f"MB/s, {size / 1e6:.1f} MB of JSON that nobody had asked for before", "")
    warm = median(speeds[1:])
    report.row("list_mb_per_s", warm, f"median of {LISTS}, REST over TLS", f"{used * 1e3:.0f} ms each")
    grown = (server.memory() - memory) / OBJECTS
    report.row("bytes for JSON", grown, "resident, for each object that was listed as JSON", "")
    return {"list_mb_per_s": warm}


STAMP: Final = re.compile(rb'"bench/sent":"([0-9.]+)"')


async def _watch(server: Server, report: Report) -> dict[str, float]:
    """Watchers live in a process of their own; the stamps are of one clock."""
    child = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "bench.apiserver", "--watch", server.rest],
        *map(str, (server.tls.ca, server.tls.cert, server.tls.key)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    if (await asyncio.wait_for(child.stdout.readline(), 60)) != b"ready\n":
        raise RuntimeError("the watchers did not start")
    writer = Writer(server)
    cpu = server.cpu()
    for number in range(EVENTS):
        stamp = {"bench/sent": f"{time.monotonic():.6f}"}
        await writer.call("Patch", patch_request(number, {}, stamp))
        await asyncio.sleep(EVENT_SECONDS)
    await writer.close()
    out, _ = await asyncio.wait_for(child.communicate(), 60)
    seen = sorted(orjson.loads(out))
    figures = {"watch_p99_ms": seen[int(len(seen) * 0.99)] * 1e3}
    each = (server.cpu() - cpu) / EVENTS * 1e3
    what = f"{WATCHERS} REST watchers, {EVENTS} events, {1 / EVENT_SECONDS:.0f}/s; write included"
    report.row("watch_p99_ms", figures["watch_p99_ms"], what, f"{each:.1f} ms an event")
    report.row("watch median, ms", statistics.median(seen) * 1e3, f"{len(seen)} of {EVENTS * WATCHERS} seen", "")
    return figures


async def _watchers(rest: str, files: TlsFiles) -> None:
    server = Server(rest, "", files, 0)
    latencies: list[float] = []
    ready = 0

    async def watch(session: aiohttp.ClientSession) -> None:
        nonlocal ready
        seen, rest_of = 0, b""
        selection = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "120"}
        async with session.get(f"https://{rest}{PATH}", params=selection) as answer:
            answer.raise_for_status()
            ready += 1
            if ready == WATCHERS:
                print("ready", flush=True)
            async for chunk in answer.content.iter_any():
                now = time.monotonic()
                *lines, rest_of = (rest_of + chunk).split(b"\n")
                for line in lines:
                    if stamp := STAMP.search(line):
                        latencies.append(now - float(stamp[1]))
                        seen += 1
                if seen == EVENTS:
                    return

    connector = aiohttp.TCPConnector(ssl=server.ssl_context(), limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=180)) as session:
        async with session.get(f"https://{rest}{PATH}", params={"limit": "1"}) as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        await asyncio.gather(*(watch(session) for _ in range(WATCHERS)))
    print(orjson.dumps(latencies).decode())


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watch", nargs=4, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.watch:
        rest, *files = wanted.watch
        asyncio.run(_watchers(rest, TlsFiles(*map(Path, files))))
        return
    report = Report("apiserver", "make bench-apiserver", "what", "figure", "how", "CPU time of the server")
    figures: dict[str, float] = {}
    with ahead_of_others(), running_server() as server:
        for measure in (_writes, _lists, _watch):
            figures |= asyncio.run(measure(server, report))
    report.notes.append("etcd, clients and watchers share the two cores with the server")
    report.finish(figures)


if __name__ == "__main__":
    main()
