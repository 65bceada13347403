"""Refusals as gRPC statuses."""

from __future__ import annotations

from typing import Any

from grpc_status import rpc_status

from services.apimachinery.client.errors import to_grpc_status
from services.apimachinery.errors import ApiError, InternalError
from services.common.logs import get_logger

log = get_logger(__name__)


async def abort(context: Any, error: Exception) -> None:
    """Ends a call with a refusal. An unexpected failure is logged, its text stays inside."""
    if not isinstance(error, ApiError):
        log.error("call failed", error=f"{type(error).__name__}: {error}", exc_info=error)
        error = InternalError("an error on the server has prevented the request from succeeding")
    await context.abort_with_status(rpc_status.to_status(to_grpc_status(error)))
