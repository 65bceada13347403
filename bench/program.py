"""What the programs cost a packet, by BPF_PROG_TEST_RUN on those that the daemon attached, over full tables."""

from __future__ import annotations

import json
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from bench.control import load_routes
from bench.lab import ROOT, TRAFFIC, Lab, mac_of, run, within
from bench.ways import Overlay

PROGRAM_COST: Final = TRAFFIC.with_name("program_cost")
ROUTES: Final = 100_000
FLOWS: Final = 100_000
RUNS: Final = 200_000
OPTIONS: Final = (f"--routes={2 * ROUTES}", f"--flows={4 * FLOWS}", "--flow-quota=0")
REDIRECT: Final = 7  # TC_ACT_REDIRECT
UDP: Final = 17


def build() -> None:
    """Compiles the measuring program."""
    source = ROOT / "bench" / "native" / "program_cost.c"
    run("gcc", "-O2", "-Wall", "-Wextra", "-o", str(PROGRAM_COST), str(source), "-lbpf")


class Programs:
    """Encapsulation on host 1 and decapsulation on host 2, each over FLOWS flows that exist and ROUTES routes."""

    def __init__(self, lab: Lab, overlay: Overlay, folder: Path) -> None:
        self._lab = lab
        for index in range(2):
            load_routes(overlay.daemons[index].channel, ROUTES)
        flows = list(_flows())
        random.Random(1).shuffle(flows)
        inner = [_packet(lab.ips[0], lab.ips[1], source, target) for source, target in flows]
        near = bytes.fromhex(lab.macs[0].replace(":", ""))
        gateway = bytes.fromhex(mac_of(lab.hosts[0], "dtap0").replace(":", ""))
        links = [bytes.fromhex(mac_of(host, "pf0").replace(":", "")) for host in lab.hosts]
        outer = _outer(links, overlay.underlays)
        self._frames = [folder / "inner", folder / "outer"]
        self._frames[0].write_bytes(b"".join(gateway + near + b"\x08\x00" + packet for packet in inner))
        self._frames[1].write_bytes(b"".join(outer(packet) + packet for packet in inner))
        for index in range(2):
            self._cost(index, "turn", FLOWS)  # every flow is made

    def cost(self, order: str) -> float:
        """Nanoseconds of the pair: encapsulation and decapsulation."""
        return sum(self._cost(index, order, RUNS) for index in range(2))

    def _cost(self, index: int, order: str, runs: int) -> float:
        host, device = self._lab.hosts[index], ("dtap0", "pf0")[index]
        ifindex = json.loads(run("ip", "-n", host, "-j", "link", "show", device))[0]["ifindex"]
        arguments = [str(_program(host, device)), str(ifindex), str(self._frames[index]), str(FLOWS), str(runs), order]
        took, verdict, share = run(*within(host, PROGRAM_COST, *arguments, cpu=0)).split()
        if int(verdict) != REDIRECT or float(share) < 1:
            raise RuntimeError(f"{device}: {float(share):.1%} of the packets had verdict {verdict}")
        return float(took)


@contextmanager
def programs() -> Iterator[Programs]:
    """Two hosts with full tables."""
    overlay = Overlay(options=OPTIONS)
    with tempfile.TemporaryDirectory() as folder, Lab(overlay, "veth") as lab:
        yield Programs(lab, overlay, Path(folder))


def _program(namespace: str, device: str) -> int:
    """The id of the program at a device's tc ingress."""
    filters = json.loads(run("tc", "-n", namespace, "-j", "filter", "show", "dev", device, "ingress"))
    return next(int(one["options"]["prog"]["id"]) for one in filters if "prog" in one.get("options", {}))


def _flows() -> Iterator[tuple[int, int]]:
    """Pairs of ports."""
    return ((1024 + number % 50_000, 9 + number // 50_000) for number in range(FLOWS))


def _packet(source: str, target: str, source_port: int, target_port: int) -> bytes:
    """A small UDP packet over IPv4; its checksum is left out, as IPv4 allows."""
    length = 46
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, UDP, 0, IPv4Address(source).packed, IPv4Address(target).packed
    )
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    header = header[:10] + struct.pack(">H", checksum) + header[12:]
    return header + struct.pack(">HHHH", source_port, target_port, length - 20, 0) + bytes(length - 28)


def _outer(macs: list[bytes], underlays: list[str]) -> Callable[[bytes], bytes]:
    """Makes Ethernet and IPv6 headers for an inner packet from host 1 to host 2."""
    ethernet = macs[1] + macs[0] + b"\x86\xdd"
    addresses = b"".join(IPv6Address(underlay).packed for underlay in underlays)
    return lambda packet: ethernet + struct.pack(">IHBB", 6 << 28, len(packet), 4, 64) + addresses
