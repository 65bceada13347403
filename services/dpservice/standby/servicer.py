"""The StateSync service: what a standby instance follows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Final

import grpc

from protos.dpservice.v1 import standby_pb2 as pb
from protos.dpservice.v1 import standby_pb2_grpc as pb_grpc
from services.common.logs import get_logger
from services.dpservice.engine.interface import Engine
from services.dpservice.standby.messages import parts, told

log = get_logger(__name__)

ROUND_SECONDS: Final = 0.2
REST: Final = 4
"""After a round comes a rest of that many times its length: a large table takes a fifth of one core at most."""


class StateSyncServicer(pb_grpc.StateSyncServicer):
    """Every follower costs a thread and a copy of the flow table. When `stopping` is set they get a last round."""

    def __init__(self, engine: Engine, stopping: threading.Event) -> None:
        self._transfer, self._stopping = engine.transfer, stopping

    def Follow(self, request: pb.FollowRequest, context: grpc.ServicerContext) -> Iterator[pb.StateUpdate]:
        """Goes on until the follower or this process ends."""
        layout = self._transfer.layout()
        if request.layout != layout.version:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"flows have layout {layout.version} here, {request.layout} there",
            )
        log.info("follower came", peer=context.peer())
        source, tables = self._transfer.source(), self._transfer.shared()
        if tables is not None:  # before the first look, which takes a while
            yield pb.StateUpdate(fresh=True, tables=told(tables))
        while context.is_active():
            is_last, started = self._stopping.is_set(), time.monotonic()
            yield from parts(source.changes())
            if is_last:
                return
            self._stopping.wait(max(ROUND_SECONDS, REST * (time.monotonic() - started)))
