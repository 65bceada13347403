"""The control plane of dpservice under load: route changes, interfaces, and what packets notice of it.

Run as a program it is the load itself: `python -m bench.control SOCKET RATE` changes RATE routes a second until it is
told to end (SIGTERM), and prints how many it changed in a second.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

import grpc

from bench.lab import PREFIX, ROOT, VNI, run
from bench.unary import UnaryCalls, header_block
from bench.ways import checked, start_daemon
from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpservice.v1 import routes_pb2 as bulk
from protos.dpservice.v1 import routes_pb2_grpc as bulk_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["DPDKironcore"].full_name
IN_FLIGHT: Final = 64
DEVICES: Final = 256
BATCH: Final = 20_000
FIRST_ROUTE: Final = int(IPv4Address("20.0.0.0"))
HOP: Final = b"fc00:1:0:9::1"


def _route(number: int) -> pb.Route:
    address = pb.IpAddress(ipver=pb.IPV4, address=str(IPv4Address(FIRST_ROUTE + number)).encode())
    hop = pb.IpAddress(ipver=pb.IPV6, address=HOP)
    return pb.Route(prefix=pb.Prefix(ip=address, length=32), nexthop_vni=VNI, nexthop_address=hop)


def _block(method: str) -> bytes:
    return header_block(f"/{SERVICE}/{method}")


def _changes() -> list[tuple[bytes, bytes]]:
    """Calls that add IN_FLIGHT routes and then remove them."""
    added, removed = _block("CreateRoute"), _block("DeleteRoute")
    routes = [_route(number) for number in range(IN_FLIGHT)]
    return [
        *((added, pb.CreateRouteRequest(vni=VNI, route=route).SerializeToString()) for route in routes),
        *((removed, pb.DeleteRouteRequest(vni=VNI, route=route).SerializeToString()) for route in routes),
    ]


def change_routes(path: Path, wants_more: Callable[[float], bool], rate: float = 0.0) -> float:
    """Adds and removes routes by unary calls, IN_FLIGHT at a time; changes a second. All are gone afterwards.

    `wants_more` is asked with the seconds that went by; `rate` is the most changes in a second, 0 = no limit.
    """
    changes, begun = _changes(), 0
    with UnaryCalls(path, lambda message: checked(pb.CreateRouteResponse.FromString(message))) as calls:
        started = time.monotonic()
        while (goes_on := wants_more(passed := time.monotonic() - started)) or begun % len(changes):
            allowed = calls.oldest() + IN_FLIGHT
            if not goes_on:  # many answers come at once: the end must not be stepped over
                allowed = min(allowed, begun + -begun % len(changes))
            if rate:
                allowed = min(allowed, int(passed * rate) + 1)
            if allowed > begun:
                calls.begin(changes[number % len(changes)] for number in range(begun, allowed))
                begun = allowed
            if calls.oldest() < begun:
                calls.read()
            else:
                time.sleep(max(0.0, started + begun / rate - time.monotonic()))
        calls.finish()
        return begun / (time.monotonic() - started)


def load_routes(channel: grpc.Channel, count: int) -> float:
    """Seconds until `count` routes are in force, by the bulk call."""
    hop = bulk.NextHop(underlay=IPv6Address(HOP.decode()).packed, vni=VNI)
    batches = []
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        added = b"".join(struct.pack(">IB", FIRST_ROUTE + number, 32) for number in numbers)
        indexes = [0] * len(numbers)
        batches.append(bulk.RouteBatch(vni=VNI, ip_version=4, added=added, next_hops=[hop], next_hop_indexes=indexes))
    started = time.monotonic()
    for result in bulk_grpc.RoutesStub(channel).ApplyRoutes(iter(batches), timeout=120):
        if result.code:
            raise RuntimeError(f"ApplyRoutes: {result.message}: {result.reason}")
    return time.monotonic() - started


def interfaces_per_s(rounds: int) -> list[float]:
    """CreateInterface calls a second, on devices that are there."""
    name = f"{PREFIX}{os.getpid()}-control"
    with ExitStack() as undo:
        run("ip", "netns", "add", name)
        undo.callback(run, "ip", "netns", "delete", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "link", "add", "pf0", "type", "veth", "peer", "name", "pf1")
        for number in range(DEVICES):
            run("ip", "-n", name, "tuntap", "add", f"dtap{number}", "mode", "tap", "vnet_hdr")
        devices = [f"--device=net_tap{number + 2}=dtap{number}" for number in range(DEVICES)]
        daemon = start_daemon(name, name, ["--ipv6=fc00:1:0:1::1", "--uplink=pf0", *devices], undo)
        daemon.stub.Initialize(pb.InitializeRequest(), timeout=5)
        return [_make_interfaces(daemon.socket) for _ in range(rounds)]


def _make_interfaces(path: Path) -> float:
    made = [(_block("CreateInterface"), _interface(number).SerializeToString()) for number in range(DEVICES)]
    gone = [(_block("DeleteInterface"), pb.DeleteInterfaceRequest(interface_id=_id(number)).SerializeToString())
            for number in range(DEVICES)]  # fmt: skip
    with UnaryCalls(path, lambda message: checked(pb.CreateInterfaceResponse.FromString(message))) as calls:
        took = calls.all(made)
    with UnaryCalls(path, lambda message: checked(pb.DeleteInterfaceResponse.FromString(message))) as calls:
        calls.all(gone)
    return DEVICES / took


def _id(number: int) -> bytes:
    return f"nic-{number}".encode()


def _interface(number: int) -> pb.CreateInterfaceRequest:
    return pb.CreateInterfaceRequest(
        interface_id=_id(number),
        device_name=f"net_tap{number + 2}",
        vni=VNI,
        ipv4_config=pb.IpConfig(primary_address=str(IPv4Address("10.1.0.0") + number).encode()),
    )


class Churn:
    """A process beside the packets that changes routes at a rate, for as long as the context lasts."""

    def __init__(self, socket: Path, rate: float) -> None:
        self._command = [sys.executable, "-m", "bench.control", str(socket), str(rate)]

    def __enter__(self) -> Churn:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the churn ended at once")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        if self._process.wait(10):
            raise RuntimeError("the churn failed")


def _main(path: str, rate: str) -> None:
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    print("ready", flush=True)
    print(change_routes(Path(path), lambda seconds: not ended, float(rate)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
