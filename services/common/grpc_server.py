"""An asyncio gRPC server with what all of ours have: health, reflection, limits, a clean end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from services.common.tls import TlsFiles

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
DRAIN_SECONDS = 5.0

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
)

Register = Callable[[grpc.aio.Server], None]


@asynccontextmanager
async def grpc_server(
    listen: str,
    service_names: Sequence[str],
    register: Register,
    *,
    tls: TlsFiles | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> AsyncIterator[str]:
    """Serves while the context is open and yields the bound address (a port of 0 is replaced by the chosen one).

    `listen` is `host:port`, `[v6]:port` or `unix:/path`; a unix socket gets mode 0600. `register` adds the servicers;
    `service_names` are their full names, for health and reflection. Raises RuntimeError when the address is taken.
    """
    server = grpc.aio.server(interceptors=list(interceptors), options=OPTIONS)
    register(server)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = (*service_names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
    reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
    bound = _bind(server, listen, tls)
    await server.start()
    if listen.startswith("unix:"):
        os.chmod(listen.removeprefix("unix:"), 0o600)
    for name in ("", *names):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield bound
    finally:
        await health.enter_graceful_shutdown()
        await server.stop(DRAIN_SECONDS)


def _bind(server: grpc.aio.Server, listen: str, tls: TlsFiles | None) -> str:
    if listen.startswith("unix:"):
        path = Path(listen.removeprefix("unix:"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # left by a killed predecessor
        server.add_insecure_port(listen)
        return listen
    port = server.add_secure_port(listen, tls.server_credentials()) if tls else server.add_insecure_port(listen)
    return f"{listen.rpartition(':')[0]}:{port}"
