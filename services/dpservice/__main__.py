"""`dpservice serve`: the data plane of one hypervisor; `dpservice drops`: what it dropped and why."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from ipaddress import IPv6Address
from pathlib import Path
from threading import Event
from typing import NoReturn

from pyroute2 import IPRoute

from services.common import logs, settings, telemetry
from services.common.service import start_tracing
from services.dpservice.api.server import serving
from services.dpservice.api.servicer import DataplaneServicer
from services.dpservice.dataplane import Dataplane
from services.dpservice.engine.ebpf import EbpfEngine
from services.dpservice.engine.inspect import read_drops
from services.dpservice.engine.interface import Engine, PacketSettings
from services.dpservice.engine.memory import MemoryEngine
from services.dpservice.exporter import DataplaneCollector, exporting
from services.dpservice.journal import Journal, JournalError
from services.dpservice.model.state import Limits, Model
from services.dpservice.model.underlay import UnderlayAllocator
from services.dpservice.node.announcer import Announcer
from services.dpservice.node.tap import create_missing_taps
from services.dpservice.node.watch import NodeWatcher
from services.dpservice.settings import DropsSettings, ServeSettings

PROGRAM = "dpservice"
log = logs.get_logger(__name__)


def main(arguments: list[str]) -> None:
    """Runs a sub-command. Raises SystemExit: 2 for wrong settings, 1 for what the machine refuses."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    match command:
        case "serve":
            _serve(rest)
        case "drops":
            _drops(rest)
        case _:
            _refuse(f"{PROGRAM}: {command or 'no command'}: use `{PROGRAM} serve|drops [--help]`")


def _refuse(*lines: str, code: int = 2) -> NoReturn:
    print(*lines, sep="\n", file=sys.stderr)
    raise SystemExit(code)


def _serve(arguments: list[str]) -> None:
    wanted = settings.load(ServeSettings, arguments, f"{PROGRAM} serve")
    problems = wanted.problems()
    if problems:
        _refuse(*(f"{PROGRAM} serve: {problem}" for problem in problems))
    logs.configure(wanted.log_level, wanted.log_format, service=PROGRAM)
    start_tracing(wanted, PROGRAM, node=wanted.ipv6)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        _run(wanted, stop)
    except (OSError, RuntimeError, JournalError) as error:
        log.error("process failed", error=f"{type(error).__name__}: {error}")
        sys.exit(1)
    finally:
        telemetry.shutdown()


def _drops(arguments: list[str]) -> None:
    wanted = settings.load(DropsSettings, arguments, f"{PROGRAM} drops")
    try:
        drops = read_drops(Path(wanted.bpf_root))
    except OSError as error:
        _refuse(f"{PROGRAM} drops: {error}", code=1)
    for reason, count in drops.items():
        if count or wanted.all:
            print(f"{count:>12}  {reason}")


def _run(wanted: ServeSettings, stop: Event) -> None:
    host = IPv6Address(wanted.ipv6) if wanted.ipv6 else _address_of_loopback()
    allocator = UnderlayAllocator(host, reproducible=wanted.static_underlay)
    devices, uplinks = wanted.devices(), wanted.uplinks()
    model = Model(list(devices), uplinks, allocator, Limits(routes=wanted.routes))
    journal = Journal(wanted.journal_path())
    journal.hold()
    engine = _engine(wanted)
    dataplane = Dataplane(model, engine, journal, wanted.guest_services())
    dataplane.start(cold=wanted.cold)
    engine.configure(
        PacketSettings(
            underlay_prefix=allocator.prefix,
            check_sources=not wanted.compat,
            ipv6_overlay=wanted.enable_ipv6_overlay,
            trusted=wanted.trusted(host),
        )
    )
    # The stubs call methods abstract that answer UNIMPLEMENTED by themselves.
    servicer = DataplaneServicer(dataplane, devices, f"ferrite {version('ferrite')}")  # type: ignore[abstract]
    with (
        _watching(wanted, engine, dataplane),
        exporting(wanted.ops_listen, DataplaneCollector(engine, dataplane, {*devices.values(), *uplinks})),
        serving(servicer, wanted.addresses()) as addresses,
    ):
        log.info("serving", addresses=addresses, host=str(host), uuid=dataplane.uuid)
        stop.wait()
        log.info("stopping, packets go on")


def _engine(wanted: ServeSettings) -> Engine:
    if wanted.engine == "memory":
        return MemoryEngine()
    root = Path(wanted.bpf_root)
    root.mkdir(parents=True, exist_ok=True)
    return EbpfEngine(root, wanted.routes, discard=wanted.cold)


@contextmanager
def _watching(wanted: ServeSettings, engine: Engine, dataplane: Dataplane) -> Iterator[None]:
    """Devices exist and have their programs before the first call is answered."""
    if wanted.engine == "memory":
        yield
        return
    devices = wanted.devices()
    if wanted.create_taps:
        create_missing_taps(devices.values())
    watcher = NodeWatcher(engine, devices, wanted.uplinks(), wanted.dhcp_mtu)
    announcer = Announcer(dataplane, engine, watcher, ipv6=wanted.enable_ipv6_overlay)
    watcher.start()
    announcer.start()
    try:
        yield
    finally:
        announcer.stop()
        watcher.stop()


def _address_of_loopback() -> IPv6Address:
    """The underlay address that the host has on lo: global, /64. Raises OSError."""
    with IPRoute() as netlink:
        for message in netlink.addr("dump", family=socket.AF_INET6, index=socket.if_nametoindex("lo")):
            if message["prefixlen"] == 64 and message["scope"] == 0:
                return IPv6Address(message.get_attr("IFA_ADDRESS"))
    raise OSError("no --ipv6 is given and lo has no global /64 address")


if __name__ == "__main__":
    main(sys.argv[1:])
