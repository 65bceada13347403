"""Active or standby: whoever holds the lock serves packets, the other one follows until the lock is free."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import grpc
from prometheus_client import Gauge

from protos.dpservice.v1 import standby_pb2 as pb
from protos.dpservice.v1 import standby_pb2_grpc as pb_grpc
from services.common.logs import get_logger
from services.dpservice.engine.interface import Engine, SharedTables
from services.dpservice.standby.messages import Garbled, rounds, tables_of

log = get_logger(__name__)

ACTIVE = Gauge("ferrite_dpservice_active", "1: this instance serves packets; 0: it stands by.")
STOP_SECONDS: Final = 0.1  # between two looks whether to stop
RETRY_SECONDS: Final = 0.5  # until the other instance is asked again
LAST_ROUND_SECONDS: Final = 0.3
"""For what is still under way when the lock is free, if that can't be read from where it is."""
OPTIONS: Final = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
)


class ActiveLock:
    """A file that one process can lock; the lock ends with the process."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Is it ours now? Raises OSError."""
        try:
            self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wait(self) -> futures.Future[None]:
        """Is done when it is ours, which can take forever, or when that failed: then with an OSError."""
        taken = futures.Future[None]()

        def take() -> None:
            try:
                self._lock(fcntl.LOCK_EX)
            except Exception as error:  # of any kind: nobody hears of what a thread raises
                taken.set_exception(error)
            else:
                taken.set_result(None)

        threading.Thread(target=take, name="lock", daemon=True).start()
        return taken

    def _lock(self, how: int) -> None:
        try:
            fcntl.flock(self._file, how)
        except OSError as error:
            raise OSError(error.errno, f"{self._path} can't be locked: {error.strerror}") from error


class Standby:
    """Follows the active instance at `peer`, a gRPC address; follows nobody when it is empty."""

    def __init__(self, engine: Engine, lock: ActiveLock, peer: str) -> None:
        self._transfer, self._lock, self._peer = engine.transfer, lock, peer
        self._ended = threading.Event()
        self._call: Any = None
        self._unreadable = ""

    def wait(self, stop: threading.Event) -> bool:
        """Stands by until the lock is ours (True) or `stop` is set. Raises OSError, also when the lock can't be had."""
        ACTIVE.set(0)
        log.info("standing by", peer=self._peer)
        follower = threading.Thread(target=self._follow, name="follower", daemon=True)
        if self._peer:
            follower.start()
        taken = self._lock.wait()
        while not stop.is_set() and not taken.done():
            futures.wait([taken], STOP_SECONDS)
        self._ended.set()
        if self._peer:
            if not self._transfer.follows:
                follower.join(0 if stop.is_set() else LAST_ROUND_SECONDS)
            if self._call is not None:
                self._call.cancel()
            follower.join()
        if stop.is_set():
            return False
        taken.result()
        log.info("taking over", flows=self._transfer.settle())
        return True

    def catch_up(self) -> None:
        """Once our programs are in the place of the other's: packets have met those until now."""
        try:
            log.info("caught up", flows=self._transfer.catch_up())
        except OSError as error:
            log.warning("the other instance's last flows could not be read", error=str(error))

    def _follow(self) -> None:
        """A peer that is away or of another version is asked again and again: it may be restarted."""
        failure = ""
        with grpc.insecure_channel(self._peer, options=OPTIONS) as channel:
            while not self._ended.is_set():
                try:
                    self._follow_once(pb_grpc.StateSyncStub(channel))
                    text = "it ended the stream"
                except (grpc.RpcError, Garbled, OSError) as error:
                    text = str(error.details() if isinstance(error, grpc.Call) else error)
                if text != failure and not self._ended.is_set():
                    log.warning("active instance can't be followed", peer=self._peer, error=text)
                failure = text
                self._ended.wait(RETRY_SECONDS)

    def _follow_once(self, stub: pb_grpc.StateSyncStub) -> None:
        layout = self._transfer.layout()
        self._call = stub.Follow(pb.FollowRequest(layout=layout.version))
        if self._ended.is_set():
            self._call.cancel()
        for update in rounds(self._with_tables(self._call), layout):
            self._transfer.receive(update)
            if update.fresh:
                log.info("following", peer=self._peer, flows=len(update.flows), tables=self._transfer.follows)

    def _with_tables(self, messages: Iterable[pb.StateUpdate]) -> Iterator[pb.StateUpdate]:
        """Opens the sender's tables when it has told where they are."""
        for index, message in enumerate(messages):
            if not index:
                self._open(tables_of(message))
            yield message

    def _open(self, tables: SharedTables) -> None:
        try:
            self._transfer.follow(tables)
        except OSError as error:
            if str(error) != self._unreadable:
                log.warning(
                    "tables of the active instance can't be opened, its last moment will be lost", error=str(error)
                )
            self._unreadable = str(error)
