"""The gRPC server: synchronous, because calls are short and block on the engine.

Python code runs on one thread at a time, so calls whose work does not grow with the tables are answered by the thread
that serves (`short_calls`). Of the two threads for the other ones, one decodes and encodes while the other waits for
gRPC, and a third would only wake and wait. Streams hold a thread for as long as they last, and have others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from protos.dpservice.v1 import routes_pb2, routes_pb2_grpc, standby_pb2, standby_pb2_grpc
from services.common import telemetry
from services.common.grpc_server import DRAIN_SECONDS, MAX_MESSAGE_BYTES, bind
from services.common.logs import get_logger
from services.common.telemetry_grpc import ThreadedServerTracing
from services.dpservice.api.health import DataplaneHealth
from services.dpservice.api.short_calls import ShortCalls, supported

log = get_logger(__name__)

THREADS: Final = 2
STREAMS: Final = 64  # at a time; more wait
MAX_WAITING: Final = 100_000
SHORT: Final = frozenset(
    (
        *("CheckInitialized", "GetVersion", "CheckVniInUse", "CreateRoute", "DeleteRoute"),
        *(
            "CreateInterface",
            "GetInterface",
            "CreatePrefix",
            "DeletePrefix",
            "CreateVip",
            "GetVip",
            "CreateNat",
            "GetNat",
        ),
        *("CreateNeighborNat", "GetFirewallRule"),
    )
)
"""Unary calls that walk no table and no flows."""
SERVICE: Final = pb.DESCRIPTOR.services_by_name["DPDKironcore"].full_name
ROUTES: Final = routes_pb2.DESCRIPTOR.services_by_name["Routes"].full_name
STATE: Final = standby_pb2.DESCRIPTOR.services_by_name["StateSync"].full_name
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
    # gRPC cancels calls at random from 1,000 waiting ones on: an agent that fills a host has more in flight.
    ("grpc.server.max_pending_requests", MAX_WAITING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_WAITING),
)


@dataclass(frozen=True)
class Doors:
    """The services of a data plane: the original's and our own."""

    dpdkironcore: pb_grpc.DPDKironcoreServicer
    routes: routes_pb2_grpc.RoutesServicer
    state: standby_pb2_grpc.StateSyncServicer

    def names(self) -> list[str]:
        """Full names, for health and reflection."""
        return [SERVICE, ROUTES, STATE]

    def add_to(self, server: CallsApart) -> None:
        """Before the server starts."""
        pb_grpc.add_DPDKironcoreServicer_to_server(self.dpdkironcore, server)
        routes_pb2_grpc.add_RoutesServicer_to_server(self.routes, server)
        standby_pb2_grpc.add_StateSyncServicer_to_server(self.state, server)


class CallsApart:
    """Stands for a server when services are added to it: streams get threads of their own, short calls none."""

    def __init__(self, server: grpc.Server, short: ShortCalls | None) -> None:
        self._server, self._short = server, short
        self._streams = futures.ThreadPoolExecutor(STREAMS, "grpc-stream")

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """For what is not registered."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """What gRPC's generated code calls."""
        others = {}
        for name, handler in handlers.items():
            if self._short is not None and service == SERVICE and name in SHORT:
                self._short.add(f"/{service}/{name}", handler)
            else:
                others[name] = self._apart(handler)
        self._server.add_registered_method_handlers(service, others)

    def _apart(self, handler: Any) -> Any:
        codec = handler.request_deserializer, handler.response_serializer
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(_OnThreads(handler.stream_stream, self._streams), *codec)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(_OnThreads(handler.unary_stream, self._streams), *codec)
        return handler


class _OnThreads:
    """A method with the attribute by which gRPC chooses its threads."""

    def __init__(self, method: Callable[..., Any], threads: futures.ThreadPoolExecutor) -> None:
        self._method, self.experimental_thread_pool = method, threads

    def __call__(self, *arguments: Any) -> Any:
        return self._method(*arguments)


@contextmanager
def serving(doors: Doors, addresses: Sequence[str], busy: Callable[[], bool]) -> Iterator[list[str]]:
    """Serves on `host:port` and `unix:/path` (mode 0600) addresses; yields them with the ports that were chosen for 0.

    `busy` says whether a call would have to wait for another one. Raises OSError or RuntimeError when an address can't
    be had.
    """
    tracing = [ThreadedServerTracing()] if telemetry.enabled() else []
    server = grpc.server(futures.ThreadPoolExecutor(THREADS, "grpc"), options=OPTIONS, interceptors=tracing)
    short = ShortCalls(server, tracing, busy) if supported() else None
    apart = CallsApart(server, short)
    doors.add_to(apart)
    health = DataplaneHealth()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    known = (*doors.names(), health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(known, apart)
    bound = [bind(server, address) for address in addresses]
    server.start()
    if short is not None:
        short.start()
    else:
        log.warning("short calls run on threads: this release of gRPC is not known", release=grpc.__version__)
    for name in ("", *doors.names()):
        health.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield bound
    finally:
        health.enter_graceful_shutdown()
        server.stop(DRAIN_SECONDS).wait()
