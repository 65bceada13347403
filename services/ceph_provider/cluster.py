"""The connection to Ceph: calls in a thread pool with deadlines, re-opened when lost.

librados waits for ever by default and re-connects by itself. What it does not heal: a client that was put on the
blocklist, and a call that hangs. Both count as a lost connection, and a new one gets its own threads.
"""

from __future__ import annotations

import asyncio
import errno
import json
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import rados
import rbd
from prometheus_client import Counter, Histogram

from services.ceph_provider.model.names import VOLUMES_OBJECT
from services.common.logs import get_logger
from services.common.tasks import Backoff

log = get_logger(__name__)
T = TypeVar("T")

SECONDS = Histogram("ferrite_ceph_provider_ceph_seconds", "Time that Ceph takes for an action.", ["action"])
ERRORS = Counter("ferrite_ceph_provider_ceph_errors", "Actions that failed, by errno or timeout.", ["action", "code"])

OPERATION_SECONDS: Final = 15
"""librados' own limit for one operation."""

CALL_SECONDS: Final = 30.0
"""For a call of several operations; without a sign of life for so long, the connection counts as lost."""

PATIENCE_SECONDS: Final = 3.0
"""How long a call waits for a connection."""

PROBE_SECONDS: Final = 10.0
LOST: Final = frozenset({errno.ETIMEDOUT, errno.ESHUTDOWN, errno.ENOTCONN})
# ESHUTDOWN is how librados tells a client that it is on the blocklist.


class CephError(Exception):
    """A call failed; `code` is the errno."""

    def __init__(self, action: str, error: Exception) -> None:
        super().__init__(f"{action}: {error}")
        self.code: int = getattr(error, "errno", None) or errno.EIO


class CephLost(Exception):
    """There is no connection, or Ceph did not answer in time; it is being opened again."""


@dataclass(frozen=True)
class CephAddress:
    """How the cluster is reached: monitors as a host:port list, user without `client.`, its key, the pool."""

    monitors: str
    user: str
    key: str = field(repr=False)
    pool: str
    connect_seconds: float = 10.0


class Pulse:
    """The sign of life of a long call: `beat` moves its deadline. Called from any thread."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def beat(self) -> None:
        """There was progress."""
        self.last = time.monotonic()


class Connection:
    """An open connection and its threads."""

    def __init__(self, address: CephAddress, threads: int) -> None:
        self._address = address
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="ceph")
        self.lost = asyncio.Event()
        self.ceph: Any = None

    def open(self) -> None:
        """Blocks. Raises rados.Error; rados.ObjectNotFound names a pool that does not exist."""
        address = self._address
        ceph = rados.Rados(
            rados_id=address.user,
            conf={
                "mon_host": address.monitors,
                "key": address.key,
                "client_mount_timeout": str(math.ceil(address.connect_seconds)),
                "rados_mon_op_timeout": str(OPERATION_SECONDS),
                "rados_osd_op_timeout": str(OPERATION_SECONDS),
                # Errors are reported where they are handled; librados would write its own to stderr.
                "log_to_stderr": "false",
                "err_to_stderr": "false",
            },
        )
        ceph.connect(timeout=address.connect_seconds)
        try:
            if not ceph.pool_exists(address.pool):
                raise rados.ObjectNotFound(f"pool {address.pool!r} does not exist", errno.ENOENT)
        except BaseException:
            ceph.shutdown()
            raise
        self.ceph = ceph

    def close_later(self) -> None:
        """Closes when the calls under way have ended: librados must not be shut down under them."""
        self.pool.shutdown(wait=False)
        threading.Thread(target=self._close, name="ceph-close", daemon=True).start()

    def _close(self) -> None:
        self.pool.shutdown(wait=True)
        if self.ceph is not None:
            self.ceph.shutdown()


class Cluster:
    """One Ceph cluster and one pool of it."""

    def __init__(self, address: CephAddress, *, threads: int) -> None:
        self.address = address
        self._threads = threads
        self._connection: Connection | None = None
        self._connected = asyncio.Event()
        self.on_connected: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Keeps the connection open until cancelled; `on_connected` is called after each opening."""
        backoff = Backoff(first=0.2, limit=5.0)
        while True:
            connection = Connection(self.address, self._threads)
            try:
                await self._in_pool(connection, "connect", connection.open, self.address.connect_seconds + 1, None)
                backoff.reset()
                log.info("ceph connected", monitors=self.address.monitors, pool=self.address.pool)
                self._connection = connection
                self._connected.set()
                self.on_connected()
                await self._until_lost(connection)
                log.warning("ceph connection was lost", monitors=self.address.monitors)
            except (CephError, CephLost) as error:
                log.warning("ceph was not reachable", monitors=self.address.monitors, error=str(error))
            finally:
                self._connection = None
                self._connected.clear()
                connection.close_later()
            await asyncio.sleep(backoff.next())

    async def connected(self) -> None:
        """Waits until there is a connection."""
        await self._connected.wait()

    def problem(self) -> str:
        """What is wrong with the connection; empty when it is open."""
        return "" if self._connection is not None else f"no connection to Ceph at {self.address.monitors}"

    async def call(
        self, action: str, function: Callable[[Any], T], *, seconds: float = CALL_SECONDS, pulse: Pulse | None = None
    ) -> T:
        """Runs `function(connection)` in the pool; `action` says in errors what was tried.

        Raises CephError, or CephLost when there is no connection or no answer (with `pulse`: no beat) in `seconds`.
        """
        connection = await self._open_connection(action)
        with SECONDS.labels(action).time():
            return await self._in_pool(connection, action, lambda: function(connection.ceph), seconds, pulse)

    async def in_pool(
        self, action: str, function: Callable[[Any], T], *, seconds: float = CALL_SECONDS, pulse: Pulse | None = None
    ) -> T:
        """As `call`, with the I/O context of the volumes' pool."""

        def on_pool(ceph: Any) -> T:
            with ceph.open_ioctx(self.address.pool) as pool:
                return function(pool)

        return await self.call(action, on_pool, seconds=seconds, pulse=pulse)

    async def command(self, prefix: str, **arguments: Any) -> Any:
        """A monitor command; returns its JSON answer, None for an empty one. Raises as `call` does."""
        order = json.dumps({"prefix": prefix, **arguments, "format": "json"})

        def send(ceph: Any) -> bytes:
            code, output, problem = ceph.mon_command(order, b"", timeout=OPERATION_SECONDS)
            if code != 0:
                raise rados.OSError(problem or errno.errorcode.get(-code, "failed"), errno=-code)
            return bytes(output)

        output = await self.call(prefix, send)
        return json.loads(output) if output.strip() else None

    async def _open_connection(self, action: str) -> Connection:
        """A connection is usually back in milliseconds: worth waiting for, so that callers need not try again."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._connected.wait()
        except TimeoutError:
            raise CephLost(f"{action}: no connection to Ceph at {self.address.monitors}") from None
        assert self._connection is not None  # set before the event, and cleared with it
        return self._connection

    async def _until_lost(self, connection: Connection) -> None:
        while not connection.lost.is_set():
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await connection.lost.wait()
            except TimeoutError:
                await self._probe()

    async def _probe(self) -> None:
        """A cheap operation on an object; it notices what no client is waiting for."""

        def look(pool: Any) -> None:
            try:
                pool.stat(VOLUMES_OBJECT)
            except rados.ObjectNotFound:
                pass

        await self.in_pool("probe", look)

    async def _in_pool(
        self, connection: Connection, action: str, function: Callable[[], T], seconds: float, pulse: Pulse | None
    ) -> T:
        future = asyncio.get_running_loop().run_in_executor(connection.pool, function)
        pulse = pulse or Pulse()
        while not future.done():
            left = pulse.last + seconds - time.monotonic()
            if left <= 0:
                connection.lost.set()
                future.add_done_callback(_ignored)
                ERRORS.labels(action, "timeout").inc()
                raise CephLost(f"{action}: Ceph did not answer within {seconds:.0f} s")
            await asyncio.wait([future], timeout=left)
        try:
            return await future
        except (rados.Error, rbd.Error) as error:
            ERRORS.labels(action, errno.errorcode.get(getattr(error, "errno", None) or 0, "unknown")).inc()
            if getattr(error, "errno", None) in LOST:
                connection.lost.set()
                raise CephLost(f"{action}: {error}") from error
            raise CephError(action, error) from error


def _ignored(future: asyncio.Future[Any]) -> None:
    """Nobody waits for it any more; an exception that nobody takes would be logged as a defect."""
    if not future.cancelled():
        future.exception()
