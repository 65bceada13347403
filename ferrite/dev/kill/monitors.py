"""Look on for as long as the check lasts: pings at a guest's port, routes in the data planes, `kubectl get -w`."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import grpc

from ferrite.dev import network
from ferrite.dev.kill.pings import PingLog
from ferrite.dev.plan import ClusterPlan, Member
from protos.dpdkironcore.v1 import dpdk_pb2, dpdk_pb2_grpc
from services.common.grpc_client import grpc_channel

ROUTE_SECONDS: Final = 0.2
ASK_SECONDS: Final = 2.0
AGAIN_SECONDS: Final = 0.3


class PingCapture:
    """tcpdump at the port of a guest, for as long as the context is open."""

    def __init__(self, node: Member, device: str, file: Path) -> None:
        self._command = network.enter(
            node.netns, ["tcpdump", "-n", "-l", "-tt", "--immediate-mode", "-i", device, "icmp"]
        )
        self._file = file
        self.log = PingLog()

    def __enter__(self) -> Self:
        self._written = self._file.open("wb")
        self._process = subprocess.Popen(self._command, stdout=self._written, stderr=subprocess.DEVNULL)
        self._read = self._file.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._read.close()
        self._written.close()

    def refresh(self) -> PingLog:
        """The log with all that was seen until now."""
        lines = []
        while line := self._read.readline():
            if not line.endswith("\n"):
                self._read.seek(self._read.tell() - len(line))
                break
            lines.append(line)
        self.log.add(lines)
        return self.log


@dataclass(frozen=True)
class Gap:
    """Routes that a data plane did not have at a moment (seconds since 1970)."""

    when: float
    node: str
    missing: frozenset[str]


class RouteMonitor:
    """Asks each data plane for its routes all the time; one that does not answer is asked again."""

    def __init__(self, plan: ClusterPlan) -> None:
        self._stubs: dict[str, Any] = {}
        self._channels: list[grpc.aio.Channel] = []
        for node in plan.hypervisors:
            channel = grpc_channel(f"unix:{plan.run}/{node.name}/dpservice.sock", deadline=ASK_SECONDS)
            self._channels.append(channel)
            self._stubs[node.name] = dpdk_pb2_grpc.DPDKironcoreStub(channel)
        self.gaps: list[Gap] = []
        self.looks = 0

    async def routes(self) -> dict[str, frozenset[str]]:
        """Node → its routes; nodes that do not answer are left out."""
        found = {}
        for node, stub in self._stubs.items():
            with contextlib.suppress(grpc.aio.AioRpcError):
                found[node] = frozenset(_route(route) for route in (await stub.ListRoutes(_ALL_ROUTES)).routes)
        return found

    async def interfaces(self) -> dict[str, frozenset[str]]:
        """Node → `id device underlay` of its interfaces. Raises AioRpcError."""
        found = {}
        for node, stub in self._stubs.items():
            answer = await stub.ListInterfaces(dpdk_pb2.ListInterfacesRequest(), wait_for_ready=True)
            found[node] = frozenset(
                f"{port.id.decode()} {port.pci_name} {port.underlay_route.decode()}" for port in answer.interfaces
            )
        return found

    async def run(self, wanted: Mapping[str, frozenset[str]]) -> None:
        """Notes each moment at which one of the wanted routes is missing."""
        while True:
            for node, present in (await self.routes()).items():
                self.looks += 1
                if missing := wanted[node] - present:
                    self.gaps.append(Gap(time.time(), node, missing))
            await asyncio.sleep(ROUTE_SECONDS)

    async def close(self) -> None:
        """Ends the connections."""
        for channel in self._channels:
            await channel.close()


class KubectlWatch:
    """`kubectl get machines -w`, started again when it ends, as a person would."""

    def __init__(self, plan: ClusterPlan) -> None:
        columns = "custom-columns=NAME:.metadata.name"
        words = ["get", "machines", "--watch", "--no-headers", "-o", columns]
        self._command = ["kubectl", "--kubeconfig", str(plan.kubeconfig), *words]
        self._process: asyncio.subprocess.Process | None = None
        self.seen: set[str] = set()
        # When (seconds since 1970) a watch that had shown something ended, and what it said to it.
        self.ends: list[tuple[float, str]] = []

    async def run(self) -> None:
        """Watches for ever."""
        while True:
            await self._watch()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _watch(self) -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self._command, stdout=pipe, stderr=pipe)
        assert process.stdout is not None
        assert process.stderr is not None
        lines = 0
        try:
            async for line in process.stdout:
                lines += 1
                self.seen.add(line.decode().strip())
            said = (await process.stderr.read()).decode().strip()
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if lines:  # without any, it never was connected
            self.ends.append((time.time(), said or (f"exit code {code}" if code else "")))


_ALL_ROUTES = dpdk_pb2.ListRoutesRequest()


def _route(route: dpdk_pb2.Route) -> str:
    target = f"{route.prefix.ip.address.decode()}/{route.prefix.length}"
    return f"{target} via {route.nexthop_address.address.decode()}"
