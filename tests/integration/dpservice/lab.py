"""Two hypervisors as network namespaces, joined by a fabric namespace with two veth uplinks each; guests on veth.

guest ── host 1 ══ pf0, pf1 ══ fabric ══ pf0, pf1 ══ host 2 ── guest
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from services.dpservice.engine.inspect import read_drops
from services.dpservice.engine.pins import Pins
from services.dpservice.inspection.tables import uplinks
from tests.integration.dpservice.namespaces import ETHTOOL_STSO, attached, inside, switch_off

PREFIX = "ft-dp-"
T = TypeVar("T")
IMPATIENT = tuple((f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max"))
GATEWAY4, GATEWAY6 = "169.254.0.1", "fe80::1"


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def within(namespace: str, *command: str) -> list[str]:
    """The command as run inside a namespace, with this machine's mounts."""
    return ["nsenter", f"--net=/run/netns/{namespace}", *command]


def eventually(look: Callable[[], T], seconds: float = 30.0) -> T:
    """The first true result of `look`; fails with the last one."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s, last seen: {seen!r}")
        time.sleep(0.05)


def new_name() -> str:
    """A name for a test's things that tells whose they are."""
    return f"{PREFIX}{os.getpid()}-{secrets.token_hex(2)}"


def _left_behind(text: str) -> bool:
    """Does it name something whose owner is gone?"""
    found = re.search(rf"{PREFIX}(\d+)-", text)
    return found is not None and not Path(f"/proc/{found[1]}").exists()


def sweep() -> None:
    """Removes what a killed run left; another run that is going on keeps its own, and may be sweeping, too."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            if "dpservice" in command and _left_behind(command):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue
    for namespace in filter(_left_behind, run("ip", "netns", "list").split("\n")):
        run("ip", "netns", "delete", namespace.split()[0], check=False)
    for mount in filter(_left_behind, Path("/proc/mounts").read_text().splitlines()):
        run("umount", mount.split()[1], check=False)
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _left_behind(left.name):
            shutil.rmtree(left, ignore_errors=True)


@dataclass
class Guest:
    """A guest on a veth whose other end is a device of its host."""

    namespace: str
    device: str
    mac: str
    ipv4: str
    ipv6: str
    underlay: str = ""
    pump: subprocess.Popen[str] | None = None

    def configure(self) -> None:
        """What DHCP and router advertisements would tell it."""
        for command in (
            "link set lo up",
            "link set eth0 mtu 1500 up",
            f"address add {self.ipv4}/32 dev eth0",
            f"address add {self.ipv6}/128 dev eth0 nodad",
            f"route add {GATEWAY4} dev eth0",
            f"route add default via {GATEWAY4}",
            f"route add default via {GATEWAY6} dev eth0",
        ):
            run("ip", "-n", self.namespace, *command.split())

    def end_pump(self) -> tuple[int, int]:
        """Frames that reached a TAP guest, and how many of them were merged."""
        assert self.pump is not None
        self.pump.terminate()
        out, _ = self.pump.communicate(timeout=10)
        self.pump = None
        frames, merged = out.split()
        return int(frames), int(merged)

    def run(self, *command: str, check: bool = True) -> str:
        return run(*within(self.namespace, *command), check=check)

    def ping(self, address: str, *options: str) -> bool:
        done = subprocess.run(
            within(self.namespace, "ping", "-c", "1", "-W", "1", *options, address), capture_output=True, timeout=20
        )
        return done.returncode == 0

    def spawn(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            within(self.namespace, *command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


@dataclass
class Host:
    """A hypervisor: namespace, bpffs, state, daemon."""

    lab: Lab
    number: int
    process: subprocess.Popen[bytes] | None = None
    channel: grpc.Channel | None = None
    slots: int = 4  # devices dtap<n>
    patience: float = 20.0  # seconds until the daemon serves

    @property
    def namespace(self) -> str:
        return f"{self.lab.name}-h{self.number}"

    @property
    def address(self) -> str:
        return f"fc00:1:0:{self.number}::1"

    @property
    def directory(self) -> Path:
        return self.lab.directory / f"h{self.number}"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def command(self) -> list[str]:
        """How the daemon of this host is started."""
        devices = [f"--device=net_tap{index + 2}=dtap{index}" for index in range(self.slots)]
        return within(
            self.namespace,
            *(sys.executable, "-m", "services.dpservice", "serve"),
            *(f"--ipv6={self.address}", "--uplink=pf0", "--uplink=pf1", "--enable-ipv6-overlay"),
            *(f"--bpf-root={self.directory}/bpf", f"--state-dir={self.directory}/state"),
            *(f"--grpc-unix={self.directory}/grpc.sock", *devices),
        )

    def initialize(self) -> None:
        """The first call of every client."""
        assert self.stub.Initialize(pb.InitializeRequest(), timeout=30).status.code == 0

    def start(self, *options: str) -> pb_grpc.DPDKironcoreStub:
        """Starts the daemon and returns a client once it serves."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command() + list(options), stdout=log, stderr=log)
        if self.channel is not None:
            self.channel.close()
        self.channel = grpc.insecure_channel(f"unix:{self.directory}/grpc.sock", options=IMPATIENT)
        try:
            grpc.channel_ready_future(self.channel).result(timeout=self.patience)
        except grpc.FutureTimeoutError:
            raise AssertionError(self.log) from None
        return self.stub

    @property
    def stub(self) -> pb_grpc.DPDKironcoreStub:
        return pb_grpc.DPDKironcoreStub(self.channel)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(10)

    def has_uplink(self) -> bool:
        """Is there a way into the fabric: a link that is up, behind which a router's MAC is known?"""
        return any(row["usable"] for row in uplinks(Pins(self.directory / "bpf")))

    def cut_segments(self) -> None:
        """Makes the uplinks and what is behind them send no whole GSO packets, as a wire wouldn't."""
        for name in ("pf0", "pf1"):
            inside(self.namespace, lambda name=name: switch_off(name, ETHTOOL_STSO))
            inside(self.lab.fabric, lambda name=name: switch_off(f"h{self.number}{name}", ETHTOOL_STSO))

    def block_detour(self) -> None:
        """As on a kernel without segment routing: whoever starts now finds no device for the detour."""
        run("ip", "-n", self.namespace, "link", "delete", "dpdetour", check=False)
        run("ip", "-n", self.namespace, "link", "add", "dpdetour", "type", "ifb")

    def drops(self) -> dict[str, int]:
        """Read from the pinned map, so also while the daemon is dead."""
        return read_drops(self.directory / "bpf")

    def create(self, guest: Guest, vni: int, identifier: str = "") -> Guest:
        """Makes the guest's interface."""
        answer = self.stub.CreateInterface(
            pb.CreateInterfaceRequest(
                interface_id=(identifier or guest.namespace).encode(),
                device_name=guest.device,
                vni=vni,
                ipv4_config=pb.IpConfig(primary_address=guest.ipv4.encode()),
                ipv6_config=pb.IpConfig(primary_address=guest.ipv6.encode()),
                hostname="guest",
            ),
            timeout=30,
        )
        assert answer.status.code == 0, answer
        guest.underlay = answer.underlay_route.decode()
        return guest

    def create_prefix(self, identifier: str, prefix: str) -> str:
        """Adds an IPv4 alias prefix; its underlay address."""
        address, length = prefix.split("/")
        answer = self.stub.CreatePrefix(
            pb.CreatePrefixRequest(
                interface_id=identifier.encode(),
                prefix=pb.Prefix(ip=pb.IpAddress(ipver=pb.IPV4, address=address.encode()), length=int(length)),
            ),
            timeout=30,
        )
        assert answer.status.code == 0, answer
        return answer.underlay_route.decode()

    def route(self, vni: int, prefix: str, underlay: str) -> None:
        """Adds an external route."""
        address, length = prefix.split("/")
        version = pb.IPV6 if ":" in address else pb.IPV4
        answer = self.stub.CreateRoute(
            pb.CreateRouteRequest(
                vni=vni,
                route=pb.Route(
                    prefix=pb.Prefix(ip=pb.IpAddress(ipver=version, address=address.encode()), length=int(length)),
                    nexthop_vni=vni,
                    nexthop_address=pb.IpAddress(ipver=pb.IPV6, address=underlay.encode()),
                ),
            ),
            timeout=30,
        )
        assert answer.status.code == 0, answer


class Lab:
    """The namespaces; `close` removes everything."""

    def __init__(self) -> None:
        self.name = new_name()
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.fabric = f"{self.name}-fab"
        self.guests: list[Guest] = []
        run("ip", "netns", "add", self.fabric)
        run(*within(self.fabric, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"))
        self.hosts = [self._host(number) for number in (1, 2)]

    def _host(self, number: int) -> Host:
        host = Host(self, number)
        (host.directory / "bpf").mkdir(parents=True)
        run("mount", "-t", "bpf", "bpf", str(host.directory / "bpf"))
        run("ip", "netns", "add", host.namespace)
        run("ip", "-n", host.namespace, "link", "set", "lo", "up")
        for index in (0, 1):
            outer, link = f"h{number}pf{index}", f"fd00:{number}:{index}::"
            run("ip", "-n", self.fabric, "link", "add", outer, "type", "veth", "peer", "name", f"pf{index}",
                "netns", host.namespace)  # fmt: skip
            for namespace, device, last in ((self.fabric, outer, 1), (host.namespace, f"pf{index}", 2)):
                run("ip", "-n", namespace, "address", "add", f"{link}{last}/64", "dev", device, "nodad")
                run("ip", "-n", namespace, "link", "set", device, "mtu", "1600", "up")
            run("ip", "-n", host.namespace, "route", "add", "default", "via", f"{link}1", "metric", str(10 + index))
            run("ip", "-n", self.fabric, "route", "add", f"fc00:1:0:{number}::/64", "via", f"{link}2",
                "metric", str(10 + index))  # fmt: skip
        return host

    def guest(self, host: Host, slot: int, ipv4: str, ipv6: str) -> Guest:
        """A guest namespace whose eth0 is the other end of the host's dtap<slot>."""
        guest = self._guest(host, slot, ipv4, ipv6)
        run("ip", "-n", host.namespace, "link", "delete", f"dtap{slot}", check=False)  # a TAP that the daemon made
        run("ip", "-n", host.namespace, "link", "add", f"dtap{slot}", "type", "veth", "peer", "name", "eth0",
            "address", guest.mac, "netns", guest.namespace)  # fmt: skip
        guest.configure()
        if host.process is not None:
            eventually(lambda: attached(host.namespace, f"dtap{slot}") is not None)
        return guest

    def tap_guest(self, host: Host, slot: int, ipv4: str, ipv6: str) -> Guest:
        """A guest behind the TAP dtap<slot> that the host's daemon made: a pump carries frames as QEMU does."""
        guest = self._guest(host, slot, ipv4, ipv6)
        guest.pump = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.integration.dpservice.tap_pump"),
                *(host.namespace, f"dtap{slot}", guest.namespace, "eth0"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert guest.pump.stdout is not None
        assert guest.pump.stdout.readline() == "ready\n"
        run("ip", "-n", guest.namespace, "link", "set", "eth0", "address", guest.mac)
        guest.configure()
        return guest

    def _guest(self, host: Host, slot: int, ipv4: str, ipv6: str) -> Guest:
        namespace, mac = f"{self.name}-g{len(self.guests)}", f"52:54:00:00:{host.number:02x}:{slot:02x}"
        run("ip", "netns", "add", namespace)
        self.guests.append(Guest(namespace, f"net_tap{slot + 2}", mac, ipv4, ipv6))
        return self.guests[-1]

    def close(self) -> None:
        for host in self.hosts:
            host.kill()
            if host.channel is not None:
                host.channel.close()
        for guest in self.guests:
            if guest.pump is not None:
                guest.pump.kill()
                guest.pump.wait()
            run("ip", "netns", "delete", guest.namespace)
        for host in self.hosts:
            run("ip", "netns", "delete", host.namespace)
            run("umount", str(host.directory / "bpf"))
        run("ip", "netns", "delete", self.fabric)
        shutil.rmtree(self.directory)
