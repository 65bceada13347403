"""`dpservice serve`: wires the data plane of one hypervisor and runs until it is told to stop."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from ipaddress import IPv6Address
from pathlib import Path
from threading import Event
from typing import Final, NoReturn

from pyroute2 import IPRoute

from services.common import logs, settings, telemetry
from services.common.service import start_tracing
from services.dpservice.api.bulk import RoutesServicer
from services.dpservice.api.server import Doors, serving
from services.dpservice.api.servicer import DataplaneServicer
from services.dpservice.dataplane import Dataplane
from services.dpservice.engine.ebpf import EbpfEngine
from services.dpservice.engine.interface import Engine, PacketSettings, TableSizes
from services.dpservice.engine.memory import MemoryEngine
from services.dpservice.exporter import DataplaneCollector, exporting
from services.dpservice.figures import Figures
from services.dpservice.journal import Journal, JournalError
from services.dpservice.model.state import Limits, Model
from services.dpservice.model.underlay import UnderlayAllocator
from services.dpservice.node.announcer import Announcer
from services.dpservice.node.representors import guest_devices, netdevs
from services.dpservice.node.tap import create_missing_taps
from services.dpservice.node.watch import NodeWatcher
from services.dpservice.options import OptionError, understand, without_effect
from services.dpservice.settings import GUEST_LIMIT, ServeSettings
from services.dpservice.standby.role import ACTIVE, ActiveLock, Standby
from services.dpservice.standby.servicer import StateSyncServicer
from services.dpservice.telemetry_socket import Telemetry, telemetry_socket

PROGRAM: Final = "dpservice"
COREDUMP_FILTER: Final = Path("/proc/self/coredump_filter")
EVERYTHING: Final = "0x7f"  # core(5): all kinds of mappings that may hold state, without devices' memory
log = logs.get_logger(__name__)


def main(arguments: list[str]) -> None:
    """Runs until SIGTERM or SIGINT. Raises SystemExit: 2 for wrong settings, 1 for what the machine refuses."""
    if arguments in (["-v"], ["--version"]):
        print(f"DP Service version {_version()}")
        return
    try:
        invocation = understand(arguments, os.environ)
    except OptionError as error:
        _refuse([str(error)])
    wanted = settings.load(ServeSettings, invocation.flags, f"{PROGRAM} serve", invocation.defaults)
    if problems := wanted.problems():
        _refuse(problems)
    logs.configure(wanted.log_level, wanted.log_format, service=PROGRAM)
    for warning in invocation.warnings + without_effect(wanted):
        log.warning("option ignored", option=warning)
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


def _refuse(problems: list[str]) -> NoReturn:
    print(*(f"{PROGRAM} serve: {problem}" for problem in problems), sep="\n", file=sys.stderr)
    raise SystemExit(2)


def _version() -> str:
    return f"ferrite {version('ferrite')}"


def _run(wanted: ServeSettings, stop: Event) -> None:
    if wanted.debug_coredumps:
        COREDUMP_FILTER.write_text(EVERYTHING)
    host = IPv6Address(wanted.ipv6) if wanted.ipv6 else _address_of_loopback()
    allocator = UnderlayAllocator(host, reproducible=wanted.static_underlay)
    devices, uplinks = _devices(wanted), wanted.uplinks()
    model = Model(
        list(devices),
        uplinks,
        allocator,
        Limits(routes=wanted.routes),
        accept_only=wanted.firewall == "compat",
    )
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
            host=host,
            firewall=wanted.firewall != "compat",
            wcmp=wanted.wcmp,
            flow_timeout=wanted.flow_timeout,
            established_timeout=wanted.established_timeout,
            flow_quota=wanted.flow_quota,
            nat_quota=wanted.nat_quota,
            answers_per_second=wanted.guest_answers,
            virtual_services=tuple(wanted.virtual_services()),
            mirror_outgoing=not wanted.compat,
        )
    )
    doors = Doors(
        DataplaneServicer(dataplane, devices, _version()), RoutesServicer(dataplane), StateSyncServicer(engine, stop)
    )
    figures = Figures(engine, dataplane, uplinks, devices)
    lock = ActiveLock(Path(wanted.active_lockfile)) if wanted.active_lockfile else None
    with ExitStack() as stack:
        stands_by = lock is not None and not lock.take()
        attach = stack.enter_context(_watching(wanted, devices, engine, dataplane, figures, stands_by=stands_by))
        if not stands_by:
            attach()
        stack.enter_context(exporting(wanted.ops_listen, DataplaneCollector(figures)))
        stack.enter_context(telemetry_socket(wanted.telemetry_path(), Telemetry(figures, _version())))
        addresses = stack.enter_context(serving(doors, wanted.addresses(), dataplane.busy))
        log.info("serving", addresses=addresses, host=str(host), uuid=dataplane.uuid)
        if lock is not None and stands_by:
            standby = Standby(engine, lock, wanted.sync_peer)
            if not standby.wait(stop):
                return
            attach()
            standby.catch_up()
        ACTIVE.set(1)
        stop.wait()
        log.info("stopping, packets go on")


def _devices(wanted: ServeSettings) -> dict[str, str]:
    """Guest devices: those given by name, then those found by their netdevs' names. Raises OSError."""
    given = wanted.devices()
    if not wanted.vf_pattern:
        return given
    known = {*given.values(), *wanted.uplinks()}
    others = [netdev for netdev in netdevs() if netdev.name not in known]
    found = given | guest_devices(others, wanted.vf_pattern, multiport=wanted.multiport_eswitch)
    if len(found) > GUEST_LIMIT:
        raise OSError(f"--vf-pattern {wanted.vf_pattern}: {len(found)} devices, more than {GUEST_LIMIT}")
    return found


def _engine(wanted: ServeSettings) -> Engine:
    if wanted.engine == "memory":
        return MemoryEngine()
    root = Path(wanted.bpf_root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        advice = "it has to be in a bpffs (mount -t bpf bpf /sys/fs/bpf)"
        raise OSError(error.errno, f"--bpf-root={root}: {error.strerror}; {advice}") from error
    sizes = TableSizes(wanted.flows, wanted.nat_ports)
    return EbpfEngine(root, wanted.routes, sizes=sizes, discard=wanted.cold)


@contextmanager
def _watching(
    wanted: ServeSettings,
    devices: Mapping[str, str],
    engine: Engine,
    dataplane: Dataplane,
    figures: Figures,
    *,
    stands_by: bool,
) -> Iterator[Callable[[], None]]:
    """Gives what attaches to devices: when it returns they exist and have their programs."""
    if wanted.engine == "memory":
        yield lambda: None
        return
    watcher = NodeWatcher(engine, devices, wanted.uplinks(), wanted.dhcp_mtu)
    announcer = Announcer(dataplane, engine, watcher, figures.count_announcements, ipv6=wanted.enable_ipv6_overlay)

    def attach() -> None:
        watcher.start()
        announcer.start()

    if wanted.create_taps:
        create_missing_taps(devices.values())
    if stands_by:
        watcher.stand_by()
    try:
        yield attach
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
