"""The gRPC server: synchronous, on threads, because calls are short and block on the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from protos.dpservice.v1 import routes_pb2, routes_pb2_grpc, standby_pb2, standby_pb2_grpc
from services.common import telemetry
from services.common.grpc_server import DRAIN_SECONDS, MAX_MESSAGE_BYTES, bind
from services.common.telemetry_grpc import ThreadedServerTracing
from services.dpservice.api.health import DataplaneHealth

THREADS: Final = 8
MAX_WAITING: Final = 100_000
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

    def add_to(self, server: grpc.Server) -> None:
        """Before the server starts."""
        pb_grpc.add_DPDKironcoreServicer_to_server(self.dpdkironcore, server)
        routes_pb2_grpc.add_RoutesServicer_to_server(self.routes, server)
        standby_pb2_grpc.add_StateSyncServicer_to_server(self.state, server)


@contextmanager
def serving(doors: Doors, addresses: Sequence[str]) -> Iterator[list[str]]:
    """Serves on `host:port` and `unix:/path` (mode 0600) addresses; yields them with the ports that were chosen for 0.

    Raises OSError or RuntimeError when an address can't be had.
    """
    tracing = [ThreadedServerTracing()] if telemetry.enabled() else []
    server = grpc.server(futures.ThreadPoolExecutor(THREADS, "grpc"), options=OPTIONS, interceptors=tracing)
    doors.add_to(server)
    health = DataplaneHealth()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    known = (*doors.names(), health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(known, server)
    bound = [bind(server, address) for address in addresses]
    server.start()
    for name in ("", *doors.names()):
        health.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield bound
    finally:
        health.enter_graceful_shutdown()
        server.stop(DRAIN_SECONDS).wait()
