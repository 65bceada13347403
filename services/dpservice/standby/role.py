"""Active or standby: whoever holds the lock serves packets, the other one follows until the lock is free."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Any, Final

import grpc
from prometheus_client import Gauge

from protos.dpservice.v1 import standby_pb2 as pb
from protos.dpservice.v1 import standby_pb2_grpc as pb_grpc
from services.common.logs import get_logger
from services.dpservice.engine.interface import Engine
from services.dpservice.standby.messages import Garbled, rounds

log = get_logger(__name__)

ACTIVE = Gauge("ferrite_dpservice_active", "1: this instance serves packets; 0: it stands by.")
LOCK_SECONDS: Final = 0.02  # between two tries
RETRY_SECONDS: Final = 0.5  # until the other instance is asked again
LAST_ROUND_SECONDS: Final = (
    0.3  # for what is still under way when the lock is free; a dead instance's stream ends at once
)
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
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Lets another process have it."""
        os.close(self._file)


class Standby:
    """Follows the active instance at `peer`, a gRPC address; follows nobody when it is empty."""

    def __init__(self, engine: Engine, lock: ActiveLock, peer: str) -> None:
        self._engine, self._lock, self._peer = engine, lock, peer
        self._ended = threading.Event()
        self._call: Any = None

    def wait(self, stop: threading.Event) -> bool:
        """Stands by until the lock is ours (True) or `stop` is set. Raises OSError."""
        ACTIVE.set(0)
        log.info("standing by", peer=self._peer)
        follower = threading.Thread(target=self._follow, name="follower", daemon=True)
        if self._peer:
            follower.start()
        try:
            while not self._lock.take():
                if stop.wait(LOCK_SECONDS):
                    return False
        finally:
            self._ended.set()
            if self._peer:
                follower.join(0 if stop.is_set() else LAST_ROUND_SECONDS)
                if self._call is not None:
                    self._call.cancel()
                follower.join()
        log.info("taking over", flows=self._engine.settle_flows())
        return True

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
        layout = self._engine.layout()
        self._call = stub.Follow(pb.FollowRequest(layout=layout.version))
        for update in rounds(self._call, layout.key, layout.value):
            self._engine.receive_flows(update)
            if update.fresh:
                log.info("following", peer=self._peer, flows=len(update.flows))
