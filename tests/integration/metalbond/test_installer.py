"""The client as a process that installs routes into the kernel of a namespace of its own."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from services.metalbond.client import MetalbondClient, NextHop, NextHopType, Route, Vni
from tests.integration.metalbond.conftest import ServerProcess
from tests.support.eventually import eventually

VNI, TABLE = Vni(100), 4200
PREFIX = "ft-mb-"
MakeServer = Callable[..., Awaitable[ServerProcess]]


def ip(namespace: str, *arguments: str, check: bool = True) -> str:
    done = subprocess.run(["ip", "-n", namespace, *arguments], capture_output=True, text=True, timeout=20)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def route(destination: str, hop: int, kind: NextHopType = NextHopType.STANDARD) -> Route:
    ports = (1024 * hop, 1024 * hop + 1023) if kind is NextHopType.NAT else None
    return Route(VNI, ip_network(destination), NextHop(ip_address(f"fc00::{hop:x}"), kind, ports))


@dataclass
class Router:
    """A namespace with one device, the reflector's client in it and a peer that announces."""

    namespace: str
    server: ServerProcess
    peer: MetalbondClient
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "services.metalbond", "client", "--server", self.server.grpc_address]
        command += ["--subscribe", str(VNI), "--install-routes", f"{VNI}#{TABLE}", "--tun", "v0", "--settle", "2"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.namespace}", *command, *options], stdout=log, stderr=log
            )
        self.started.append(self.process)

    async def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 60)

    def hops(self, destination: str) -> set[int]:
        """Next hops that the kernel has for a destination, by their last digits."""
        version = "-6" if ":" in destination else "-4"
        lines = ip(self.namespace, version, "route", "show", "table", str(TABLE), check=False).splitlines()
        name = destination.removesuffix("/32").removesuffix("/128")
        found: set[int] = set()
        for line in (line for line in lines if line.split()[0] in (name, destination)):
            group = re.search(r"nhid (\d+)", line)
            assert group, line
            shown = ip(self.namespace, "nexthop", "show", "id", group[1])
            members = re.findall(r"\d+", shown.partition("group")[2].split("proto")[0])
            shown += "".join(ip(self.namespace, "nexthop", "show", "id", member) for member in members)
            found |= {int(hop, 16) for hop in re.findall(r"fc00::([0-9a-f]+)", shown)}
        return found

    def count(self) -> int:
        shown = ip(self.namespace, "route", "show", "table", str(TABLE), check=False)
        return sum(not line.startswith("\t") for line in shown.splitlines())

    @contextmanager
    def deletions(self) -> AsyncIterator[list[str]]:  # type: ignore[misc]
        """What the kernel says was deleted from the table meanwhile."""
        seen: list[str] = []
        monitor = subprocess.Popen(
            ["ip", "-n", self.namespace, "monitor", "route"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield seen
        finally:
            monitor.terminate()
            output, _ = monitor.communicate(timeout=10)
            seen += [line for line in output.splitlines() if line.startswith("Deleted") and f"table {TABLE}" in line]


def _sweep() -> None:
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=20).stdout
    for line in names.splitlines():
        found = re.match(rf"{PREFIX}(\d+)-", line)
        if found and not Path(f"/proc/{found[1]}").exists():
            subprocess.run(["ip", "netns", "delete", line.split()[0]], check=True, timeout=20)


@pytest.fixture
async def router(make_server: MakeServer, tmp_path: Path) -> AsyncIterator[Router]:
    _sweep()
    server = await make_server("--grace", "1")
    namespace = f"{PREFIX}{os.getpid()}-{secrets.token_hex(2)}"
    await asyncio.to_thread(subprocess.run, ["ip", "netns", "add", namespace], check=True, timeout=20)
    peer = MetalbondClient([server.grpc_address], node="peer", hold=1)
    made = Router(namespace, server, peer, tmp_path / "client.log")
    try:
        for command in ("link add v0 type veth peer name v1", "link set v0 up", "link set v1 up"):
            ip(namespace, *command.split())
        async with peer:
            yield made
    finally:
        for process in made.started:
            process.kill()
            process.wait()
        ip(namespace, "link", "delete", "v0", check=False)
        await asyncio.to_thread(subprocess.run, ["ip", "netns", "delete", namespace], check=True, timeout=20)


async def test_hops_come_and_go_without_a_moment_without_any(router: Router) -> None:
    router.start()
    destinations = ("10.0.0.1/32", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::1/128", "2001:db8:1::/48")
    with router.deletions() as deleted:
        for destination in destinations:
            router.peer.announce(route(destination, 1))
        await eventually(lambda: all(router.hops(each) == {1} for each in destinations[:2] + destinations[3:]))
        for destination in destinations:
            router.peer.announce(route(destination, 2))
            router.peer.announce(route(destination, 3, NextHopType.NAT))
            router.peer.announce(route(destination, 3, NextHopType.LOADBALANCER_TARGET))
        await eventually(lambda: all(router.hops(each) == {1, 2, 3} for each in destinations[:2] + destinations[3:]))
        for destination in destinations:
            router.peer.withdraw(route(destination, 1))
            router.peer.withdraw(route(destination, 2))
            router.peer.withdraw(route(destination, 3, NextHopType.NAT))
        await eventually(lambda: all(router.hops(each) == {3} for each in destinations[:2] + destinations[3:]))
        assert router.hops("default") == {3}
        await eventually(lambda: len(ip(router.namespace, "nexthop", "show").splitlines()) == 1)
    assert deleted == []
    for destination in destinations:
        router.peer.withdraw(route(destination, 3, NextHopType.LOADBALANCER_TARGET))
    await eventually(lambda: router.count() == 0)
    await eventually(lambda: ip(router.namespace, "nexthop", "show") == "")


async def test_a_killed_installer_comes_back_and_mends_only_what_differs(router: Router) -> None:
    router.start()
    for number in range(1, 6):
        router.peer.announce(route(f"10.0.0.{number}/32", 1))
    router.peer.announce(route("10.0.0.1/32", 2))
    await eventually(lambda: router.count() == 5)
    await router.end(signal.SIGKILL)
    router.peer.withdraw(route("10.0.0.5/32", 1))
    router.peer.announce(route("10.0.0.6/32", 7))
    with router.deletions() as deleted:
        router.start()
        await eventually(lambda: router.hops("10.0.0.6") == {7})
        await eventually(lambda: router.hops("10.0.0.5") == set())
        assert router.hops("10.0.0.1") == {1, 2}
    assert [line.split()[1] for line in deleted] == ["10.0.0.5"]


async def test_without_a_reflector_the_routes_stay(router: Router) -> None:
    router.start()
    router.peer.announce(route("10.0.0.1/32", 1))
    await eventually(lambda: router.hops("10.0.0.1") == {1})
    await router.end()
    await router.server.kill()
    with router.deletions() as deleted:
        before = router.log.read_text().count("kernel tables read")
        router.start("--settle", "12")
        await eventually(lambda: router.log.read_text().count("kernel tables read") == before + 1)
        await router.server.start()
        await router.peer.wait_established()
        await eventually(lambda: router.log.read_text().count("kernel tables read") == before + 2)  # settled
        assert router.hops("10.0.0.1") == {1}
    assert deleted == []


async def test_cleanup_removes_ours_and_nothing_else(router: Router) -> None:
    ip(router.namespace, "route", "add", "192.0.2.1/32", "dev", "v0", "table", str(TABLE), "proto", "static")
    router.start("--cleanup")
    for destination, hop in (("10.0.0.1/32", 1), ("10.0.0.1/32", 2), ("2001:db8::1/128", 1)):
        router.peer.announce(route(destination, hop))
    await eventually(lambda: router.hops("10.0.0.1") == {1, 2} and router.hops("2001:db8::1") == {1})
    assert await router.end() == 0
    assert router.count() == 1
    assert router.hops("2001:db8::1") == set()
    assert ip(router.namespace, "nexthop", "show") == ""


async def test_a_route_of_somebody_else_is_left_in_place(router: Router) -> None:
    for prefix in ("10.0.0.1/32", "2001:db8::1/128"):
        ip(router.namespace, "route", "add", prefix, "dev", "v1", "table", str(TABLE), "proto", "static")
    router.start("--cleanup")
    for destination in ("10.0.0.1/32", "2001:db8::1/128", "10.0.0.2/32", "2001:db8::2/128"):
        router.peer.announce(route(destination, 1))
    await eventually(lambda: router.hops("10.0.0.2") == {1} and router.hops("2001:db8::2") == {1})
    await eventually(lambda: "routes of others are left in place" in router.log.read_text())
    router.peer.announce(route("10.0.0.1/32", 2))
    router.peer.announce(route("10.0.0.2/32", 2))
    await eventually(lambda: router.hops("10.0.0.2") == {1, 2}, within=10)
    assert await router.end() == 0
    for version, prefix in (("-4", "10.0.0.1"), ("-6", "2001:db8::1")):
        shown = ip(router.namespace, version, "route", "show", "table", str(TABLE))
        assert [line.split()[:3] for line in shown.splitlines()] == [[prefix, "dev", "v1"]]


async def test_nobody_else_s_route_makes_room_for_decapsulation(router: Router) -> None:
    def to(hop: int) -> str:
        return ip(router.namespace, "-6", "route", "show", f"fc00::{hop}")

    ip(router.namespace, "-6", "route", "add", "fc00::77/128", "dev", "v1", "proto", "static")
    options = ("--decapsulate", "--cleanup", "--announce", f"{VNI}#0.0.0.0/0#fc00::77", "--announce")
    router.start(*options, f"{VNI}#10.7.0.0/16#fc00::66")
    await eventually(lambda: "End.DX4" in to(66))
    router.peer.announce(route("10.0.0.1/32", 1))
    await eventually(lambda: router.hops("10.0.0.1") == {1})
    assert "somebody else has a route" in router.log.read_text()
    assert "dev v1 proto static" in to(77)
    await router.end(signal.SIGKILL)
    router.start(*options, f"{VNI}#2001:db8:7::/48#fc00::66")
    await eventually(lambda: "End.DX6" in to(66))
    assert await router.end() == 0
    assert to(66) == ""
    assert "dev v1 proto static" in to(77)


async def test_routes_return_with_the_device(router: Router) -> None:
    router.start("--ipv4-only")
    for number in (1, 2):
        router.peer.announce(route("10.0.0.1/32", number))
    router.peer.announce(route("10.0.0.2/32", 1))
    router.peer.announce(route("2001:db8::1/128", 1))
    await eventually(lambda: router.hops("10.0.0.1") == {1, 2} and router.hops("10.0.0.2") == {1})
    assert router.hops("2001:db8::1") == set()
    ip(router.namespace, "link", "set", "v0", "down")
    await eventually(lambda: router.count() == 0)
    ip(router.namespace, "link", "set", "v0", "up")
    await eventually(lambda: router.hops("10.0.0.1") == {1, 2} and router.hops("10.0.0.2") == {1})
    ip(router.namespace, "link", "delete", "v0")
    for command in ("link add v0 type veth peer name v1", "link set v0 up", "link set v1 up"):
        ip(router.namespace, *command.split())
    await eventually(lambda: router.hops("10.0.0.1") == {1, 2} and router.hops("10.0.0.2") == {1})


async def test_five_thousand_routes(router: Router) -> None:
    for number in range(5_000):
        router.peer.announce(route(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}/32", number + 1))
    router.start("--cleanup")
    await eventually(lambda: router.count() == 5_000, every=0.2)
    assert await router.end() == 0
    assert router.count() == 0


async def test_a_device_that_is_not_there_ends_the_start(router: Router) -> None:
    router.start("--tun", "nowhere")
    assert router.process is not None
    assert await asyncio.to_thread(router.process.wait, 60) == 1
    assert "device 'nowhere' does not exist" in router.log.read_text()
