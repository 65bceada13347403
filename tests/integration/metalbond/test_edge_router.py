"""An edge router that is nothing but Linux, a client and its kernel, and a guest behind a real dpservice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.dpservice.lab import Guest, Lab, eventually, run, sweep, within

VNI, TABLE = 100, 1000
EDGE4, EDGE6 = "fc00:1:0:2::4", "fc00:1:0:2::6"
INTERNET4, INTERNET6 = "198.51.100.2", "2001:db8:ffff::2"


@dataclass
class Edge:
    """Fabric with a reflector; host 1 is a hypervisor with a guest, host 2 routes to a namespace as the internet."""

    lab: Lab
    guest: Guest
    internet: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def router(self) -> str:
        return self.lab.hosts[1].namespace

    def start(self, namespace: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A `ferrite metalbond` process in a namespace."""
        command = within(namespace, sys.executable, "-m", "services.metalbond", *arguments)
        with self.log.open("ab") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        return self.processes[-1]

    @property
    def log(self) -> Path:
        return self.lab.directory / "metalbond.log"

    def installer(self, *options: str) -> subprocess.Popen[bytes]:
        """The router's client."""
        return self.start(
            *(self.router, "client", "--server", "[fd00:2:0::1]:4711", "--subscribe", str(VNI)),
            *("--announce", f"{VNI}#0.0.0.0/0#{EDGE4}", "--announce", f"{VNI}#::/0#{EDGE6}"),
            *("--install-routes", f"{VNI}#{TABLE}", "--tun", "pf0", "--decapsulate", "--settle", "2", *options),
        )

    def announcer(self, *routes: str) -> subprocess.Popen[bytes]:
        """The hypervisor's client."""
        announced = [f"--announce={VNI}#{route}" for route in routes]
        return self.start(self.lab.hosts[0].namespace, "client", "--server", "[fd00:1:0::1]:4711", *announced)

    def routes(self, version: int = 4) -> str:
        return run("ip", "-n", self.router, f"-{version}", "route", "show", "table", str(TABLE), check=False)

    def objects(self) -> str:
        return run("ip", "-n", self.router, "nexthop", "show")

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        process.send_signal(number)
        return process.wait(60)

    def from_internet(self, *command: str) -> bool:
        done = subprocess.run(within(self.internet, *command), capture_output=True, timeout=20)
        return done.returncode == 0


@pytest.fixture
def edge() -> Iterator[Edge]:
    sweep()
    lab = Lab()
    made: Edge | None = None
    try:
        host, router = lab.hosts[0], lab.hosts[1].namespace
        guest = lab.guest(host, 0, "10.0.0.1", "2001:db8::1")
        host.start()
        host.initialize()
        host.create(guest, VNI, "a")
        made = Edge(lab, guest, f"{lab.name}-net")
        _internet(made.internet, router)
        made.start(lab.fabric, "server", "--listen", "[::]:4711", "--grpc-listen", f"unix:{lab.directory}/bond.sock")
        eventually(lambda: (lab.directory / "bond.sock").exists())
        yield made
    finally:
        if made is not None:
            for process in made.processes:
                process.kill()
                process.wait()
            run("ip", "netns", "delete", made.internet, check=False)
        lab.close()


def _internet(internet: str, router: str) -> None:
    run("ip", "netns", "add", internet)
    run("ip", "-n", router, "link", "add", "net0", "type", "veth", "peer", "name", "eth0", "netns", internet)
    for namespace, device, number in ((router, "net0", 1), (internet, "eth0", 2)):
        run("ip", "-n", namespace, "address", "add", f"198.51.100.{number}/24", "dev", device)
        run("ip", "-n", namespace, "address", "add", f"2001:db8:ffff::{number}/64", "dev", device, "nodad")
        run("ip", "-n", namespace, "link", "set", device, "up")
    run("ip", "-n", internet, "route", "add", "10.0.0.0/8", "via", "198.51.100.1")
    run("ip", "-n", internet, "route", "add", "2001:db8::/64", "via", "2001:db8:ffff::1")
    run(*within(router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"))
    # The source of outer headers: the address on the device that resembles the destination most.
    run("ip", "-n", router, "address", "add", "fc00:1:0:2::1/128", "dev", "pf0", "nodad")
    for version in ("-4", "-6"):
        run("ip", "-n", router, version, "rule", "add", "iif", "net0", "lookup", str(TABLE))


def test_guest_and_internet_exchange_packets(edge: Edge) -> None:
    edge.installer("--cleanup")
    edge.announcer(f"10.0.0.1/32#{edge.guest.underlay}", f"2001:db8::1/128#{edge.guest.underlay}")
    eventually(lambda: "10.0.0.1" in edge.routes() and "2001:db8::1" in edge.routes(6))
    host = edge.lab.hosts[0]
    host.route(VNI, "0.0.0.0/0", EDGE4)
    host.route(VNI, "::/0", EDGE6)
    for address in (INTERNET4, INTERNET6):
        eventually(lambda: edge.guest.ping(address))  # noqa: B023
    for address in (edge.guest.ipv4, edge.guest.ipv6):
        eventually(lambda: edge.from_internet("ping", "-c", "1", "-W", "1", address))  # noqa: B023
