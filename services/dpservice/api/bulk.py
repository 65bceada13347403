"""The Routes service: batches of routes, each in force as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from protos.dpservice.v1 import routes_pb2 as pb
from protos.dpservice.v1 import routes_pb2_grpc as pb_grpc
from services.common.logs import get_logger
from services.dpservice.api import route_batches
from services.dpservice.dataplane import Dataplane, EngineFailed
from services.dpservice.model.errors import Refusal, RouteInsert, Unreadable

log = get_logger(__name__)


class RoutesServicer(pb_grpc.RoutesServicer):
    """See the package of the protocol."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane

    def ApplyRoutes(
        self, request_iterator: Iterator[pb.RouteBatch], context: grpc.ServicerContext
    ) -> Iterator[pb.RouteBatchResult]:
        """One answer for every batch."""
        for batch in request_iterator:
            if not self._dataplane.initialized:
                context.abort(grpc.StatusCode.ABORTED, "not initialized")
            try:
                yield self._apply(batch)
            except Unreadable as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def _apply(self, batch: pb.RouteBatch) -> pb.RouteBatchResult:
        wanted = route_batches.decoded(batch)
        try:
            self._dataplane.change(lambda model: (None, model.apply_routes(*wanted)))
        except Refusal as refusal:
            log.info("batch refused", code=refusal.code, reason=str(refusal))
            return pb.RouteBatchResult(code=refusal.code, message=refusal.name, reason=str(refusal))
        except EngineFailed as error:
            log.error("engine failed", rpc="ApplyRoutes", error=str(error))
            return pb.RouteBatchResult(code=RouteInsert.code, message=RouteInsert.name, reason=str(error))
        return pb.RouteBatchResult(message="Success")
