"""An asyncio gRPC server with what all of ours have: health, reflection, limits, a clean end."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from services.common import telemetry
from services.common.telemetry_grpc import ServerTracing
from services.common.tls import TlsFiles

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
DRAIN_SECONDS = 5.0
GENERATED = "_pb2_grpc"  # how the names of modules end that protoc writes

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
    traced: bool = True,
    options: Sequence[tuple[str, int]] = (),
) -> AsyncIterator[str]:
    """Serves while the context is open and yields the bound address (a port of 0 is replaced by the chosen one).

    `listen` is `host:port`, `[v6]:port` or `unix:/path`; a unix socket gets mode 0600. `register` adds the servicers;
    `service_names` are their full names, for health and reflection. Raises RuntimeError when the address is taken.
    `traced`: calls join their callers' traces; a server may have a better way of its own. `options` are
    gRPC's, beside ours. At the end no call is taken
    any more; unary calls have DRAIN_SECONDS to finish, streams are cut.
    """
    calls = _UnaryCalls()
    tracing = [ServerTracing()] if traced and telemetry.enabled() else []
    server = grpc.aio.server(interceptors=[calls, *tracing], options=(*OPTIONS, *options))
    register(server)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = (*service_names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
    reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
    bound = bind(server, listen, tls)
    await server.start()
    for name in ("", *names):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield bound
    finally:
        await health.enter_graceful_shutdown()
        await _drain(server, calls)


class _UnaryCalls(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Knows how many unary calls are being answered."""

    def __init__(self) -> None:
        self._number = 0
        self.none = asyncio.Event()
        self.none.set()

    async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        if getattr(handler.unary_unary, "__module__", "").endswith(GENERATED):
            return _unserved(handler, details.method)
        if not inspect.iscoroutinefunction(handler.unary_unary):
            return handler

        async def counted(request: Any, context: Any) -> Any:
            self._number += 1
            self.none.clear()
            try:
                return await handler.unary_unary(request, context)
            finally:
                self._number -= 1
                if not self._number:
                    self.none.set()

        return grpc.unary_unary_rpc_method_handler(counted, handler.request_deserializer, handler.response_serializer)


def _unserved(handler: Any, path: str) -> Any:
    """For a method that the servicer leaves to the generated base class, whose answer names a Python exception."""
    name = path.rpartition("/")[2]

    async def answer(request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not implemented by this service")

    return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


async def _drain(server: grpc.aio.Server, calls: _UnaryCalls) -> None:
    """A watch would hold up a plain `stop` for the whole time that unary calls are granted."""
    stopping = asyncio.create_task(server.stop(DRAIN_SECONDS), name="grpc-drain")
    await asyncio.sleep(0)  # first no new calls, then those that are there
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            await calls.none.wait()
    await server.stop(0)
    await stopping


def bind(server: grpc.aio.Server | grpc.Server, listen: str, tls: TlsFiles | None = None) -> str:
    """Lets a server listen, and returns the address with the port that was chosen for 0.

    A unix socket is its owner's alone and never uses TLS. Raises OSError or RuntimeError when the address can't be had.
    """
    if listen.startswith("unix:"):
        path = Path(listen.removeprefix("unix:"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # left by a killed predecessor
        # The socket must not be open to others even for a moment.
        mask = os.umask(0o177)
        try:
            server.add_insecure_port(listen)
        finally:
            os.umask(mask)
        return listen
    port = server.add_secure_port(listen, tls.server_credentials()) if tls else server.add_insecure_port(listen)
    return f"{listen.rpartition(':')[0]}:{port}"
