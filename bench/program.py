"""What the programs that the daemon attached cost a packet, by one BPF_PROG_TEST_RUN for each, over full tables.

Between packets there are system calls, which cost caches and branch predictors something: bench.pair leaves them out.
"""

from __future__ import annotations

import json
import random
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from bench.control import load_routes
from bench.lab import ROOT, TRAFFIC, Lab, mac_of, run, within
from bench.ways import Overlay
from tests.integration.dpservice.namespaces import attached

PROGRAM_COST: Final = TRAFFIC.with_name("program_cost")
ROUTES: Final = 100_000
FLOWS: Final = 100_000
RUNS: Final = 200_000
REDIRECT: Final = 7  # TC_ACT_REDIRECT
UDP: Final = 17


def build() -> None:
    """Compiles the measuring program."""
    source = ROOT / "bench" / "native" / "program_cost.c"
    run("gcc", "-O2", "-Wall", "-Wextra", "-o", str(PROGRAM_COST), str(source), "-lbpf")


def options(flows: int, routes: int) -> list[str]:
    """Tables with room for so much, and all of it for one guest."""
    return [f"--routes={2 * max(routes, 1024)}", f"--flows={4 * max(flows, 1024)}", "--flow-quota=0"]


class Programs:
    """Encapsulation on host 1 and decapsulation on host 2, each over flows that exist, and routes.

    The flows go to `targets` in turn, addresses and underlay addresses; without any to the guest of host 2. With
    `encapsulation_only` host 2 is left alone. `first_ns` is what the first packets of the flows took.
    """

    def __init__(
        self,
        lab: Lab,
        overlay: Overlay,
        folder: Path,
        *,
        flows: int = FLOWS,
        routes: int = ROUTES,
        targets: Sequence[tuple[str, str]] = (),
        encapsulation_only: bool = False,
    ) -> None:
        self._lab, self._count = lab, flows
        self._measured = (0,) if encapsulation_only else (0, 1)
        for index in self._measured if routes else ():
            load_routes(overlay.daemons[index].channel, routes)
        ends = targets or [(lab.ips[1], overlay.underlays[1])]
        conversations = [(*pair, *ends[number % len(ends)]) for number, pair in enumerate(_flows(flows))]
        random.Random(1).shuffle(conversations)
        inner = [_packet(lab.ips[0], address, source, target) for source, target, address, _ in conversations]
        near = bytes.fromhex(lab.macs[0].replace(":", ""))
        gateway = bytes.fromhex(mac_of(lab.hosts[0], "dtap0").replace(":", ""))
        links = [bytes.fromhex(mac_of(host, "pf0").replace(":", "")) for host in lab.hosts]
        outer = _outer(links, overlay.underlays[0])
        self._frames = [folder / "inner", folder / "outer"]
        self._frames[0].write_bytes(b"".join(gateway + near + b"\x08\x00" + packet for packet in inner))
        wrapped = (outer(packet, each[3]) + packet for packet, each in zip(inner, conversations, strict=True))
        self._frames[1].write_bytes(b"".join(wrapped))
        self.first_ns = sum(self._cost(index, "turn", flows) for index in self._measured)

    def cost(self, order: str, runs: int = RUNS) -> float:
        """Nanoseconds of the pair: encapsulation and decapsulation."""
        return sum(self._cost(index, order, runs) for index in self._measured)

    def _cost(self, index: int, order: str, runs: int) -> float:
        host, device = self._lab.hosts[index], ("dtap0", "pf0")[index]
        ifindex = json.loads(run("ip", "-n", host, "-j", "link", "show", device))[0]["ifindex"]
        arguments = [
            str(attached(host, device)),
            str(ifindex),
            str(self._frames[index]),
            str(self._count),
            str(runs),
            order,
        ]
        took, verdict, share = run(*within(host, PROGRAM_COST, *arguments, cpu=0)).split()
        if int(verdict) != REDIRECT or float(share) < 1:
            raise RuntimeError(f"{device}: {float(share):.1%} of the packets had verdict {verdict}")
        return float(took)


@contextmanager
def programs() -> Iterator[Programs]:
    """Two hosts with full tables."""
    overlay = Overlay(options=options(FLOWS, ROUTES))
    with tempfile.TemporaryDirectory() as folder, Lab(overlay, "veth") as lab:
        yield Programs(lab, overlay, Path(folder))


def guest_frame(lab: Lab, gateway: str, source_port: int, target_port: int) -> bytes:
    """A small UDP packet from guest 1 to guest 2, as guest 1 sends it."""
    macs = bytes.fromhex((gateway + lab.macs[0]).replace(":", ""))
    return macs + b"\x08\x00" + _packet(*lab.ips, source_port, target_port)


def _flows(count: int) -> Iterator[tuple[int, int]]:
    """Pairs of ports."""
    return ((1024 + number % 50_000, 9 + number // 50_000) for number in range(count))


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


def _outer(macs: list[bytes], sender: str) -> Callable[[bytes, str], bytes]:
    """Makes Ethernet and IPv6 headers for an inner packet from host 1 to an underlay address of host 2."""
    ethernet, source = macs[1] + macs[0] + b"\x86\xdd", IPv6Address(sender).packed

    def headers(packet: bytes, underlay: str) -> bytes:
        fixed = struct.pack(">IHBB", 6 << 28, len(packet), 4, 64)
        return ethernet + fixed + source + IPv6Address(underlay).packed

    return headers
