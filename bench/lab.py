"""Two hosts joined by one link, a guest port on each; a way (bench.ways) carries packets between the guests.

guest 1 ── host 1 ══ pf0 ════ pf0 ══ host 2 ── guest 2

Ports are veth pairs into guest namespaces or TAPs.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.integration.dpservice.namespaces import inside, open_tap

if TYPE_CHECKING:
    from bench.ways import Way

PREFIX: Final = "ft-bench-"
TRAFFIC: Final = Path("build/bench/traffic").absolute()
ROOT: Final = Path(__file__).resolve().parents[1]
GATEWAY: Final = "169.254.0.1"
VNI: Final = 100
UPLINK_MTU: Final = 1600
SIOCETHTOOL: Final = 0x8946
STSO, SGSO, SGRO = 0x1F, 0x24, 0x2C  # linux/ethtool.h


def run(*command: str, check: bool = True) -> str:
    """Runs a command; its output. Raises RuntimeError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def within(namespace: str, *command: str | Path, cpu: int | None = None) -> list[str]:
    """The command as run inside a namespace, on one CPU if wanted."""
    pinned = ["taskset", "-c", str(cpu)] if cpu is not None else []
    return ["nsenter", f"--net=/run/netns/{namespace}", *pinned, *map(str, command)]


def spawn(command: list[str], *descriptors: int) -> subprocess.Popen[str]:
    """A child whose output is read later; it dies with this process and inherits descriptors."""
    whole = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    return subprocess.Popen(whole, stdout=subprocess.PIPE, text=True, pass_fds=descriptors)


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a child prints."""
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if not said:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
    return said


def set_offload(namespace: str, device: str, command: int, *, on: bool) -> None:
    """Switches an offload of a device by the ethtool ioctl. Raises OSError."""

    def change() -> None:
        value = array.array("B", struct.pack("=II", command, on))
        request = struct.pack("16sP16x", device.encode(), value.buffer_info()[0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)

    inside(namespace, change)


def build_traffic() -> None:
    """Compiles the traffic programs."""
    TRAFFIC.parent.mkdir(parents=True, exist_ok=True)
    source = ROOT / "bench" / "native" / "traffic.c"
    run("gcc", "-O2", "-Wall", "-Wextra", "-o", str(TRAFFIC), str(source))


def sweep() -> None:
    """Removes what a killed run left."""

    def abandoned(text: str) -> bool:
        found = re.search(rf"{PREFIX}(\d+)-", text)
        return found is not None and not Path(f"/proc/{found[1]}").exists()

    for process in Path("/proc").glob("[0-9]*"):
        try:
            if abandoned((process / "cmdline").read_bytes().decode(errors="replace")):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue
    for name in run("ip", "netns", "list").splitlines():
        if abandoned(name):
            run("ip", "netns", "delete", name.split()[0])
    for mount in filter(abandoned, Path("/proc/mounts").read_text().splitlines()):
        run("umount", mount.split()[1])
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if abandoned(left.name):
            shutil.rmtree(left)


class Lab:
    """One way over one kind of port. `tap` guests exist only with `guests`: then pumps stand in for QEMU.

    `wire`: frames leave the uplinks MTU-sized, as they would a NIC, and are merged at arrival (GRO).
    """

    def __init__(self, way: Way, ports: str, *, guests: bool = True, wire: bool = False) -> None:
        self.way, self.ports, self.guests, self.wire = way, ports, guests, wire
        self.name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(2)}"
        self.undo = ExitStack()
        self.hosts = [f"{self.name}-h{number}" for number in (1, 2)]
        self.guest_spaces = [f"{self.name}-g{number}" for number in (1, 2)]
        self.macs = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
        self.ips = ["10.0.0.1", "10.0.0.2"]
        self._taps: list[int] = []

    def __enter__(self) -> Lab:
        try:
            self._make()
        except BaseException:
            self.undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.undo.close()

    def _make(self) -> None:
        for namespace in self.hosts + (self.guest_spaces if self.guests else []):
            run("ip", "netns", "add", namespace)
            self.undo.callback(run, "ip", "netns", "delete", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        one, two = self.hosts
        run("ip", "-n", one, "link", "add", "pf0", "type", "veth", "peer", "name", "pf0", "netns", two)
        for index, host in enumerate(self.hosts):
            self._join(index, host)
        for index, host in enumerate(self.hosts):
            self._make_port(index, host)
        for index in range(len(self.hosts)):
            self.way.serve(self, index)
        self.way.connect(self)
        if self.guests:
            self._introduce()

    def _join(self, index: int, host: str) -> None:
        own, other = index + 1, 2 - index
        for command in (
            f"address add fd00::{own}/64 dev pf0 nodad",
            f"address add 192.168.0.{own}/24 dev pf0",
            f"address add fc00:1:0:{own}::1/64 dev lo nodad",
            f"link set pf0 mtu {UPLINK_MTU} up",
            f"route add fc00:1:0:{other}::/64 via fd00::{other}",
        ):
            run("ip", "-n", host, *command.split())
        run(*within(host, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"))
        if self.wire:
            set_offload(host, "pf0", STSO, on=False)
            set_offload(host, "pf0", SGSO, on=False)
            set_offload(host, "pf0", SGRO, on=True)

    def _make_port(self, index: int, host: str) -> None:
        guest = self.guest_spaces[index]
        if self.ports == "veth":
            names = f"type veth peer name eth0 address {self.macs[index]} netns {guest}"
            run("ip", "-n", host, "link", "add", "dtap0", *names.split())
        else:
            run("ip", "-n", host, "tuntap", "add", "dtap0", "mode", "tap", "vnet_hdr")
            if self.guests:
                pinned = ["taskset", "-c", str(index)]
                pump = spawn([*pinned, str(TRAFFIC), "pump", host, "dtap0", guest, "eth0"])
                self.undo.callback(end_process, pump)
                line(pump)
                run("ip", "-n", guest, "link", "set", "eth0", "address", self.macs[index])
            else:
                self._taps.append(open_tap(host, "dtap0"))
                self.undo.callback(os.close, self._taps[-1])
                os.set_blocking(self._taps[-1], False)
        if self.way.name != "overlay":
            run("ip", "-n", host, "link", "set", "dtap0", "up")
        if self.guests:
            run("ip", "-n", guest, "link", "set", "eth0", "mtu", "1500", "up")
            self._configure_guest(index, guest)

    def _configure_guest(self, index: int, guest: str) -> None:
        if self.way.name == "vxlan":
            run("ip", "-n", guest, "address", "add", f"{self.ips[index]}/24", "dev", "eth0")
            return
        run("ip", "-n", guest, "address", "add", f"{self.ips[index]}/32", "dev", "eth0")
        run("ip", "-n", guest, "route", "add", GATEWAY, "dev", "eth0")
        run("ip", "-n", guest, "route", "add", "default", "via", GATEWAY)

    def _introduce(self) -> None:
        """The first packets: the guest behind the far end learns and is learned."""
        pings = [(0, self.ips[1]), *([(1, self.ips[0])] if self.way.symmetric else [])]

        def answered() -> bool:
            return all(
                subprocess.run(within(self.guest_spaces[guest], "ping", "-c", "1", "-W", "1", address),
                               capture_output=True, timeout=10).returncode == 0
                for guest, address in pings
            )  # fmt: skip

        eventually(answered, f"the guests of {self.way.name} on {self.ports} reach {pings}")

    # Measuring

    def next_mac(self) -> str:
        """Where guest 1 sends its frames for guest 2."""
        if self.way.name == "vxlan":
            return self.macs[1]
        return mac_of(self.hosts[0], "dtap0")

    def small_packets(self, seconds: float, flows: int = 1, cpus: Sequence[int] = (0,)) -> float:
        """Million packets that reach guest 2 in a second of CPU time of the sender, which carries them all the way.

        With several CPUs each has a sender of its own with `flows` flows, and what they get across is added up. TAP
        ports have one queue, so one sender.
        """
        return self._veth_packets(seconds, flows, cpus) if self.ports == "veth" else self._tap_packets(seconds, flows)

    def _veth_packets(self, seconds: float, flows: int, cpus: Sequence[int]) -> float:
        guest = self.guest_spaces[1]
        if "sink" not in run(*within(guest, "nft", "list", "tables")):
            rule = "chain in { type filter hook prerouting priority -300; udp dport 9 counter drop; }"
            run(*within(guest, "nft", f"table ip sink {{\n{rule}\n}}\n"))
        before = _sunk(guest)
        senders = [
            spawn(within(self.guest_spaces[0], TRAFFIC, "blast", "eth0", str(seconds), self.next_mac(), self.ips[0],
                         self.way.target(self), f"{flows}@{1024 + cpu * flows}", cpu=cpu))
            for cpu in cpus
        ]  # fmt: skip
        for sender in senders:
            line(sender)
            sender.wait()
        return (_sunk(guest) - before) / seconds / 1e6

    def _tap_packets(self, seconds: float, flows: int) -> float:
        sending, reading = self._taps
        eventually(self._has_carrier, "the TAPs carry frames")
        reader = spawn(within(self.hosts[1], TRAFFIC, "drain", str(reading), cpu=1), reading)
        line(reader)
        ends = [self.next_mac(), self.macs[0], self.ips[0], self.way.target(self)]
        arguments = [str(sending), str(seconds), *ends, str(flows)]
        sender = spawn(within(self.hosts[0], TRAFFIC, "tapblast", *arguments, cpu=0), sending)
        line(sender)
        sender.wait()
        time.sleep(0.02)  # what is still in the TAP's ring
        reader.terminate()
        got = int(line(reader))
        reader.wait()
        return got / seconds / 1e6

    def _has_carrier(self) -> bool:
        shown = [json.loads(run("ip", "-n", host, "-j", "link", "show", "dtap0"))[0] for host in self.hosts]
        return all(link["operstate"] in ("UP", "UNKNOWN") for link in shown)

    def stream(self, seconds: float) -> float:
        """Gbit/s of one TCP connection; each guest has a CPU of its own, as two hosts would."""
        port = "5001"
        receiver = spawn(within(self.guest_spaces[1], TRAFFIC, "receive", self.ips[1], port, cpu=1))
        line(receiver)
        run(*within(self.guest_spaces[0], TRAFFIC, "send", self.ips[1], port, str(seconds), cpu=0))
        total, took = line(receiver).split()
        receiver.wait()
        return int(total) * 8 / float(took) / 1e9


def eventually(look: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Waits until `look` is true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


def end_process(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Kills a child."""
    process.kill()
    process.wait()


def mac_of(namespace: str, device: str) -> str:
    """The MAC address of a device."""
    return str(json.loads(run("ip", "-n", namespace, "-j", "link", "show", device))[0]["address"])


def _sunk(namespace: str) -> int:
    listed = json.loads(run(*within(namespace, "nft", "-j", "list", "table", "ip", "sink")))
    counters = (part["counter"] for item in listed["nftables"] if "rule" in item
                for part in item["rule"]["expr"] if "counter" in part)  # fmt: skip
    return sum(counter["packets"] for counter in counters)
