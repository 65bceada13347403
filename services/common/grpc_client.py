"""gRPC channels: keepalive, message sizes and a default deadline for every unary call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from services.common import telemetry
from services.common.grpc_server import MAX_MESSAGE_BYTES
from services.common.telemetry_grpc import ClientTracing
from services.common.tls import TlsFiles

DEFAULT_DEADLINE_SECONDS = 10.0

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # An error's details travel as metadata, and one object may break many rules.
    ("grpc.max_metadata_size", 256 * 1024),
    ("grpc.absolute_max_metadata_size", 512 * 1024),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class _Deadline(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Gives a deadline to calls that have none: a dead peer must not hold a caller for ever."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        if details.timeout is None:
            details = details._replace(timeout=self._seconds)
        return await continuation(details, request)


def grpc_channel(
    address: str,
    *,
    tls: TlsFiles | None = None,
    deadline: float = DEFAULT_DEADLINE_SECONDS,
    server_name: str = "",
    options: Sequence[tuple[str, Any]] = (),
) -> grpc.aio.Channel:
    """A lazy channel to `host:port` or `unix:/path`.

    `deadline` (seconds) holds for unary calls that set no timeout of their own; `server_name` is expected in the
    server's certificate instead of the host. `options` are gRPC channel arguments that differ from OPTIONS.
    """
    merged: dict[str, Any] = {**dict(OPTIONS), **dict(options)}
    if server_name:
        merged["grpc.ssl_target_name_override"] = server_name
    arguments = list(merged.items())
    interceptors = [_Deadline(deadline), *([ClientTracing()] if telemetry.enabled() else [])]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=arguments, interceptors=interceptors)
    return grpc.aio.secure_channel(address, tls.channel_credentials(), options=arguments, interceptors=interceptors)
