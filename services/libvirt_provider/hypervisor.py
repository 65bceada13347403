"""The connection to libvirt: calls in a thread pool with deadlines, events on the event loop, re-opened when lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import libvirt
from prometheus_client import Counter, Histogram

from services.common import telemetry
from services.common.logs import get_logger
from services.common.tasks import Backoff

log = get_logger(__name__)
T = TypeVar("T")

SECONDS = Histogram("ferrite_libvirt_provider_libvirt_seconds", "Time that libvirt takes for an action.", ["action"])
ERRORS = Counter(
    "ferrite_libvirt_provider_libvirt_errors", "Actions that failed, by libvirt's code or timeout.", ["action", "code"]
)

CALL_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
# A silent libvirtd counts as lost after interval x count seconds.
KEEPALIVE: Final = (5, 3)
NOT_THERE: Final = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_SECRET, libvirt.VIR_ERR_DEVICE_MISSING)


class HypervisorError(Exception):
    """A libvirt call failed; `code` is libvirt's error code (VIR_ERR_*)."""

    def __init__(self, action: str, error: libvirt.libvirtError) -> None:
        super().__init__(f"{action}: {error.get_error_message() or error}")
        self.code: int = error.get_error_code()


class HypervisorLost(Exception):
    """There is no connection, or libvirt did not answer in time; it is being opened again."""


@dataclass(frozen=True)
class Running:
    """A domain that exists: its state (VIR_DOMAIN_*), its XML, and the capacity of its disks by target, bytes."""

    state: int
    xml: str
    capacities: dict[str, int]


class Hypervisor:
    """One libvirt connection and its threads.

    `on_event(machine_id)` is called for each domain event, `on_connected()` after the connection was opened (again).
    """

    def __init__(self, uri: str, *, threads: int = 8, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._uri = uri
        self._threads = threads
        self._connect_seconds = connect_seconds
        self._pool = self._new_pool()
        self._hanging: list[Future[Any]] = []  # calls that nobody waits for any more
        self._connection: Any = None
        self._lost = asyncio.Event()
        self._open_event = asyncio.Event()
        self.on_event: Callable[[str], None] = lambda machine_id: None
        self.on_connected: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Keeps the connection open until cancelled."""
        _start_event_thread()
        backoff = Backoff(first=0.2, limit=5.0)
        while True:
            try:
                await self._open()
            except HypervisorError as error:
                log.warning("libvirt was not reachable", uri=self._uri, error=str(error))
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            log.info("libvirt connected", uri=self._uri)
            self._open_event.set()
            self.on_connected()
            try:
                await self._lost.wait()
            finally:
                self._open_event.clear()
                connection, self._connection = self._connection, None
                _close_later(self._pool, connection)
                self._pool, self._hanging = self._new_pool(), []
            log.warning("libvirt connection was lost", uri=self._uri)

    async def connected(self) -> None:
        """Waits until there is a connection."""
        await self._open_event.wait()

    def problem(self) -> str:
        """What is wrong with the connection; empty when it is open."""
        return "" if self._connection is not None else f"no connection to libvirt at {self._uri}"

    async def call(self, action: str, function: Callable[[Any], T], seconds: float = CALL_SECONDS) -> T:
        """Runs `function(connection)` in the pool; `action` says in errors what was tried.

        Raises HypervisorError, or HypervisorLost when there is no connection or no answer in time.
        """
        connection = self._connection
        if connection is None:
            raise HypervisorLost(f"{action}: no connection to libvirt at {self._uri}")
        with telemetry.step(f"libvirt: {action}"), SECONDS.labels(action).time():
            return await self._in_pool(action, lambda: function(connection), seconds)

    async def lookup(self, machine_id: str) -> Running | None:
        """The domain as it is, or None when there is none."""

        def look(connection: Any) -> Running | None:
            try:
                domain = connection.lookupByUUIDString(machine_id)
                state = domain.state()[0]
                if state in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED):
                    return None  # on its way out: transient domains vanish with their process
                return Running(state, domain.XMLDesc(0), _capacities(connection, domain))
            except libvirt.libvirtError as error:
                if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                    return None
                raise

        with telemetry.untraced():  # a mere look would make every reconcile worth a span
            return await self.call("look up the domain", look)

    async def create(self, xml: str) -> None:
        """Starts a transient domain."""
        await self.call("start the domain", lambda connection: connection.createXML(xml, 0), 2 * CALL_SECONDS)

    async def shutdown(self, machine_id: str) -> None:
        """Presses the ACPI power button; the guest may ignore it."""
        await self._on_domain("shut the domain down", machine_id, lambda domain: domain.shutdown())

    async def destroy(self, machine_id: str) -> None:
        """Ends the domain's process: SIGTERM, and SIGKILL when that does not help."""

        def destroy(domain: Any) -> None:
            try:
                domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
            except libvirt.libvirtError as error:
                if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                    raise
                domain.destroy()

        await self._on_domain("destroy the domain", machine_id, destroy)

    async def attach(self, machine_id: str, xml: str) -> None:
        """Plugs a device into the running domain."""
        await self.call(
            "attach a device",
            lambda connection: connection.lookupByUUIDString(machine_id).attachDeviceFlags(
                xml, libvirt.VIR_DOMAIN_AFFECT_LIVE
            ),
        )

    async def request_detach(self, machine_id: str, alias: str) -> None:
        """Asks the guest to let go of a device; an event comes when it has. A missing device is fine."""
        await self._on_domain(
            "detach a device",
            machine_id,
            lambda domain: domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE),
        )

    async def resize(self, machine_id: str, target: str, size: int) -> None:
        """Tells the guest that a disk has grown to `size` bytes."""
        await self.call(
            "resize a disk",
            lambda connection: connection.lookupByUUIDString(machine_id).blockResize(
                target, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
            ),
        )

    async def set_secret(self, xml: str, uuid: str, value: bytes) -> None:
        """Defines a secret, or gives the present one a new value."""

        def define(connection: Any) -> None:
            try:
                secret = connection.secretLookupByUUIDString(uuid)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET:
                    raise
                secret = connection.secretDefineXML(xml, 0)
            secret.setValue(value, 0)

        await self.call("define a secret", define)

    async def drop_secret(self, uuid: str) -> None:
        """Removes a secret; a missing one is fine."""

        def undefine(connection: Any) -> None:
            try:
                connection.secretLookupByUUIDString(uuid).undefine()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET:
                    raise

        await self.call("remove a secret", undefine)

    async def _on_domain(self, action: str, machine_id: str, function: Callable[[Any], Any]) -> None:
        try:
            await self.call(action, lambda connection: function(connection.lookupByUUIDString(machine_id)))
        except HypervisorError as error:
            # Stopped or gone meanwhile: what was wanted has happened.
            if error.code not in (*NOT_THERE, libvirt.VIR_ERR_OPERATION_INVALID):
                raise

    async def _open(self) -> None:
        """One try, however long libvirt takes to answer: more of them would hang beside it. Raises HypervisorError."""
        loop = asyncio.get_running_loop()
        lost = self._lost = asyncio.Event()

        def closed(connection: Any, reason: int, opaque: Any) -> None:
            _post(loop, lost.set)

        def event(connection: Any, domain: Any, *details: Any) -> None:
            # The last detail is the opaque value that each registration gives.
            _post(loop, lambda: self._announce(domain.UUIDString()))

        def connect() -> Any:
            connection = libvirt.open(self._uri)
            connection.setKeepAlive(*KEEPALIVE)
            connection.registerCloseCallback(closed, None)
            for number in (
                libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
                libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
                libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
            ):
                connection.domainEventRegisterAny(None, number, event, None)
            return connection

        opening = loop.run_in_executor(self._pool, connect)
        while not (await asyncio.wait([opening], timeout=self._connect_seconds))[0]:
            log.warning("libvirt does not answer", uri=self._uri)
        try:
            self._connection = await opening
        except libvirt.libvirtError as error:
            raise HypervisorError("connect to libvirt", error) from error

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="libvirt")

    def _announce(self, machine_id: str) -> None:
        self.on_event(machine_id)

    async def _in_pool(self, action: str, function: Callable[[], T], seconds: float) -> T:
        future = self._pool.submit(function)
        hanging = self._hanging
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            ERRORS.labels(action, "timeout").inc()
            hanging.append(future)
            hanging[:] = [each for each in hanging if not each.done()]
            # One stuck guest shall not cost the others their connection; many would cost them their threads.
            if hanging is self._hanging and 2 * len(hanging) >= self._threads:
                self._lost.set()
            raise HypervisorLost(f"{action}: libvirt did not answer within {seconds:.0f} s") from None
        except libvirt.libvirtError as error:
            ERRORS.labels(action, str(error.get_error_code())).inc()
            raise HypervisorError(action, error) from error


def _capacities(connection: Any, domain: Any) -> dict[str, int]:
    """Sizes of all disks as the guest sees them, in one call; disks without a known size are left out."""
    stats = connection.domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_BLOCK, 0)
    block = stats[0][1] if stats else {}
    count = block.get("block.count", 0)
    return {
        block[f"block.{index}.name"]: block[f"block.{index}.capacity"]
        for index in range(count)
        if f"block.{index}.capacity" in block
    }


def _post(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Runs a callback on the event loop; libvirt's thread may outlive the loop at the end of the process."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)


def _close_later(pool: ThreadPoolExecutor, connection: Any) -> None:
    """Closes when the calls under way have ended: the connection must not be freed under them."""
    pool.shutdown(wait=False)
    threading.Thread(target=_close, args=(pool, connection), name="libvirt-close", daemon=True).start()


def _close(pool: ThreadPoolExecutor, connection: Any) -> None:
    pool.shutdown(wait=True)
    try:
        connection.close()
    except libvirt.libvirtError as error:
        log.debug("closing a lost libvirt connection failed", error=str(error))


_events: threading.Thread | None = None


def _start_event_thread() -> None:
    """libvirt wants one event loop in the process, registered before the first connection."""
    global _events
    if _events is None:
        libvirt.virEventRegisterDefaultImpl()
        _events = threading.Thread(target=_run_events, name="libvirt-events", daemon=True)
        _events.start()


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


# libvirt's own printing of every error to stderr: errors are reported where they are handled.
libvirt.registerErrorHandler(lambda context, error: None, None)
