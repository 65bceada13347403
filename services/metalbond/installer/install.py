"""Keeps the kernel's tables in step with what a client learns.

Routes of an earlier life are found at the start and stay until the client's view is settled; then those that nobody
announces go. A refused operation, a change of the device, and time make the installer look again at what there is, and
mend the difference.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv6Address
from typing import Final

from prometheus_client import Counter, Gauge

from services.common.logs import get_logger
from services.common.tasks import Backoff
from services.metalbond.client import MetalbondClient
from services.metalbond.installer import messages
from services.metalbond.installer.desired import Desired, Prefix
from services.metalbond.installer.messages import Codec
from services.metalbond.installer.netlink import Kernel, NetlinkError, find_device
from services.metalbond.installer.plan import KernelState, Operation, Plan
from services.metalbond.routes import Vni

log = get_logger(__name__)

AT_ONCE: Final = 1000  # prefixes
AUDIT_SECONDS: Final = 300.0
CALM_SECONDS: Final = 0.2  # a device changes in several steps
SETTLE_LOOK_SECONDS: Final = 0.5
IDS: Final = 2**20

INSTALLED: Final = Gauge("ferrite_metalbond_installer_routes", "Prefixes in the kernel's tables.")
WAITING: Final = Gauge("ferrite_metalbond_installer_waiting", "Prefixes that are still to be brought into the kernel.")
OPERATIONS: Final = Counter("ferrite_metalbond_installer_operations", "Operations given to the kernel.")
OCCUPIED: Final = Gauge(
    "ferrite_metalbond_installer_occupied", "Prefixes left alone because somebody else has a route to them."
)
FAILURES: Final = Counter("ferrite_metalbond_installer_failures", "Times that the kernel refused something.")

_RTMGRP_LINK: Final = 1
_NEW_LINK, _DELETE_LINK = 16, 17


class Installer:
    """`tables` maps VNIs to kernel tables, 0 = main; `device` is the name of the device behind which all hops are.

    `decapsulate` are own addresses with the IP version (4 or 6) that is unpacked there. With `cleanup` all of it is
    removed at the end. Raises ValueError for an address with two versions.
    """

    def __init__(
        self,
        client: MetalbondClient,
        tables: Mapping[Vni, int],
        device: str,
        *,
        ipv4_only: bool = False,
        cleanup: bool = False,
        decapsulate: Mapping[IPv6Address, int] | None = None,
    ) -> None:
        self._client, self._device, self._cleanup = client, device, cleanup
        tables = {vni: table or messages.MAIN_TABLE for vni, table in tables.items()}
        self._tables = frozenset(tables.values())
        self._decapsulate = dict(decapsulate or {})
        # Several installers on one host have different tables, hence different ids.
        start = 2**30 + (min(self._tables, default=0) % 1024) * IDS
        self._ids = range(start, start + IDS)
        self._desired = Desired(tables, ipv4_only=ipv4_only)
        self._dirty: dict[Prefix, None] = {}
        self._kernel: Kernel | None = None
        self._plan: Plan | None = None
        self._occupied: set[Prefix] = set()
        self._not_unpacked: set[IPv6Address] = set()
        self._unsure = self._reopen = self._settled = False
        self._busy = threading.Lock()  # whoever talks to the kernel, in whichever thread
        self._awake = asyncio.Event()
        self._backoff = Backoff(first=0.2, limit=30.0)

    async def run(self) -> None:
        """Until cancelled. Raises NetlinkError if the device is not there at the start."""
        await asyncio.to_thread(find_device, self._device)
        try:
            with self._following_links():
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._follow(), name="learned routes")
                    tasks.create_task(self._settle(), name="route sweep")
                    tasks.create_task(self._audit(), name="route audit")
                    tasks.create_task(self._work(), name="route installer")
        finally:
            await asyncio.to_thread(self._end)

    async def _follow(self) -> None:
        async for change in self._client.changes():
            prefix = self._desired.apply(change)
            if prefix is not None:
                self._dirty[prefix] = None
                self._awake.set()

    async def _settle(self) -> None:
        while not self._client.settled:  # noqa: ASYNC110 (it is a matter of time alone)
            await asyncio.sleep(SETTLE_LOOK_SECONDS)
        self._settled = True
        self._look_again("settled")

    async def _audit(self) -> None:
        while True:
            await asyncio.sleep(AUDIT_SECONDS)
            self._look_again("audit")

    def _look_again(self, reason: str) -> None:
        log.debug("kernel tables are looked at again", reason=reason)
        self._unsure = True
        self._awake.set()

    async def _work(self) -> None:
        while True:
            self._awake.clear()
            try:
                plan = await self._look() if self._plan is None or self._unsure else self._plan
                if self._dirty:
                    await self._change(plan)
                    continue
                await self._do(plan, [], tidy=True)
            except (NetlinkError, RuntimeError) as error:
                FAILURES.inc()
                delay = self._backoff.next()
                log.warning("routes are not in place", error=str(error), again_in=round(delay, 2))
                self._plan = None
                await asyncio.sleep(delay)
                continue
            self._backoff.reset()
            await self._awake.wait()

    async def _look(self) -> Plan:
        self._unsure = False
        found = await asyncio.to_thread(self._found)
        self._count_occupied()
        plan = self._plan = Plan(found, self._ids)
        wanted = self._desired.prefixes
        self._dirty = dict.fromkeys(wanted | plan.prefixes if self._settled else wanted)
        INSTALLED.set(len(plan.prefixes))
        log.info("kernel tables read", routes=len(plan.prefixes), wanted=len(wanted))
        return plan

    def _found(self) -> KernelState:
        with self._busy:
            if self._reopen:
                self._reopen = False
                self._close()
            if self._kernel is None:
                self._kernel = Kernel(Codec(*find_device(self._device)), self._tables, self._ids)
            try:
                self._unpack(self._kernel)
                return self._kernel.look()
            except NetlinkError:
                self._close()
                raise

    def _unpack(self, kernel: Kernel) -> None:
        occupied = set(kernel.decapsulate(self._decapsulate))
        for address in sorted(occupied - self._not_unpacked):
            log.warning("packets are not unpacked, somebody else has a route to the address", address=str(address))
        self._not_unpacked = occupied

    async def _change(self, plan: Plan) -> None:
        prefixes = list(self._dirty)[:AT_ONCE]
        for prefix in prefixes:
            del self._dirty[prefix]
        await self._do(plan, prefixes, tidy=False)
        INSTALLED.set(len(plan.prefixes))
        WAITING.set(len(self._dirty))
        if prefixes:
            log.debug("routes written", prefixes=len(prefixes), waiting=len(self._dirty))

    async def _do(self, plan: Plan, prefixes: list[Prefix], *, tidy: bool) -> None:
        operations = plan.tidy() if tidy else plan.change((each, self._desired.hops(each)) for each in prefixes)
        if operations and self._kernel is not None:
            OPERATIONS.inc(len(operations))
            occupied = await asyncio.to_thread(self._write, operations)
            for prefix in occupied:
                plan.occupied(prefix)
            self._tell_occupied(prefixes, occupied)
        elif prefixes:
            self._tell_occupied(prefixes, [])

    def _write(self, operations: list[Operation]) -> list[Prefix]:
        with self._busy:
            return self._kernel.do(operations) if self._kernel is not None else []

    def _tell_occupied(self, looked_at: list[Prefix], found: list[Prefix]) -> None:
        if new := set(found) - self._occupied:
            log.warning("routes of others are left in place", prefixes=len(new), first=str(next(iter(new)).destination))
        self._occupied = (self._occupied - set(looked_at)) | set(found)
        self._count_occupied()

    def _count_occupied(self) -> None:
        OCCUPIED.set(len(self._occupied) + len(self._not_unpacked))

    def _close(self) -> None:
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            kernel.close()

    def _end(self) -> None:
        with self._busy:
            self._close()
            if not self._cleanup:
                return
            try:
                self._clean(Kernel(Codec(*find_device(self._device)), self._tables, self._ids))
            except NetlinkError as error:
                log.warning("routes are left behind", error=str(error))

    def _clean(self, kernel: Kernel) -> None:
        try:
            plan = Plan(kernel.look(), self._ids)
            prefixes = plan.prefixes
            kernel.do(plan.change((prefix, ()) for prefix in prefixes))
            kernel.do(plan.tidy())
            kernel.end_decapsulation(self._decapsulate)
        finally:
            kernel.close()
        log.info("routes removed", routes=len(prefixes))

    @contextmanager
    def _following_links(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as events:
            events.bind((0, _RTMGRP_LINK))
            events.setblocking(False)
            loop.add_reader(events, self._links_changed, events)
            try:
                yield
            finally:
                loop.remove_reader(events)

    def _links_changed(self, events: socket.socket) -> None:
        try:
            data = events.recv(65536)
        except OSError:  # more changes than the buffer holds
            data = b""
        for kind, _, body in messages.messages(data):
            if kind in (_NEW_LINK, _DELETE_LINK) and self._device.encode() + b"\0" in body:
                asyncio.get_running_loop().call_later(CALM_SECONDS, self._device_changed)
                return

    def _device_changed(self) -> None:
        # The kernel drops a device's routes when it goes down, and its index when it goes.
        self._reopen = True
        self._look_again("device changed")


def decapsulated(addresses: Iterator[tuple[IPv6Address, int]]) -> dict[IPv6Address, int]:
    """Own next hops with the IP version of what is announced behind them. Raises ValueError for one with both: what
    arrives at an address is unpacked as one version."""
    found: dict[IPv6Address, int] = {}
    for address, version in addresses:
        if found.setdefault(address, version) != version:
            raise ValueError(
                f"--decapsulate: {address} is the next hop of IPv4 and IPv6 prefixes; announce two addresses"
            )
    return found
