"""grpc.health.v1 as DPDKironcore's original serves it: Check of an unknown name answers SERVICE_UNKNOWN, Watch of one
ends with NOT_FOUND. A watcher holds no thread."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2


class DataplaneHealth(health.HealthServicer):  # type: ignore[misc]
    """Knows the names that `set` was called with."""

    def __init__(self) -> None:
        super().__init__(experimental_non_blocking=True)
        self._known: set[str] = {""}

    def set(self, service: str, status: int) -> None:
        """The state of a service; tells its watchers."""
        self._known.add(service)
        super().set(service, status)

    def Check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Any:
        if request.service not in self._known:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        return super().Check(request, context)

    def Watch(self, request: health_pb2.HealthCheckRequest, context: Any, send_response_callback: Any = None) -> Any:
        if request.service not in self._known:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service}")
        return super().Watch(request, context, send_response_callback)
