"""Trace contexts over gRPC: in the metadata of unary calls that change something.

A call is a span on both sides: what lies between them is the transport and the server's queue.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from services.common import telemetry
from services.common.telemetry_context import HEADER, running


def header_of(metadata: Iterable[Any] | None) -> str:
    """The traceparent of a call's metadata, or empty."""
    for name, value in metadata or ():
        if name == HEADER:
            return str(value)
    return ""


def name_of(method: str) -> str:
    """`Service/Method` without the package."""
    return method.rpartition(".")[2].removeprefix("/")


class ClientTracing(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Makes a call part of the running span, and tells the server."""

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        method = details.method.decode() if isinstance(details.method, bytes) else str(details.method)
        if running() is None or telemetry.is_read(method):
            return await continuation(details, request)
        with telemetry.step(name_of(method), "client") as span:
            metadata = grpc.aio.Metadata(*(details.metadata or ()), (HEADER, str(span.context)))
            call = await continuation(details._replace(metadata=metadata), request)
            try:
                code = await call.code()
            except asyncio.CancelledError:
                call.cancel()
                raise
            if code is not grpc.StatusCode.OK:
                span.fail(f"{code.name}: {await call.details()}")
            return call


class ServerTracing(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets unary calls join the caller's trace."""

    async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = await continuation(details)
        if not _concerns(handler, details) or not inspect.iscoroutinefunction(handler.unary_unary):
            return handler
        header = header_of(details.invocation_metadata)

        async def traced(request: Any, context: Any) -> Any:
            with telemetry.request(name_of(details.method), header) as span:
                try:
                    return await handler.unary_unary(request, context)
                except grpc.aio.AbortError:
                    span.settle(f"{context.code().name}: {context.details()}")
                    raise

        return grpc.unary_unary_rpc_method_handler(traced, handler.request_deserializer, handler.response_serializer)


class ThreadedServerTracing(grpc.ServerInterceptor):  # type: ignore[misc]
    """The same for a server on threads."""

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if not _concerns(handler, details):
            return handler
        header = header_of(details.invocation_metadata)

        def traced(request: Any, context: Any) -> Any:
            with telemetry.request(name_of(details.method), header):
                return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(traced, handler.request_deserializer, handler.response_serializer)


def _concerns(handler: Any, details: Any) -> bool:
    if not telemetry.enabled() or handler is None or handler.unary_unary is None:
        return False
    return bool(header_of(details.invocation_metadata)) and not telemetry.is_read(details.method)
