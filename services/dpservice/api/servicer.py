"""The DPDKironcore service: decode, change or read, answer. One class of each concern makes it whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from services.dpservice.api import decode
from services.dpservice.api.answers import answers
from services.dpservice.api.balancers import BalancerServicer
from services.dpservice.api.captures import CaptureServicer
from services.dpservice.api.encode import SUCCESS
from services.dpservice.api.firewall import FirewallServicer
from services.dpservice.api.interfaces import InterfaceServicer
from services.dpservice.api.public_addresses import PublicAddressServicer
from services.dpservice.api.routing import RoutingServicer
from services.dpservice.dataplane import Dataplane
from services.dpservice.model.errors import RouteReset


class DataplaneServicer(
    InterfaceServicer,
    PublicAddressServicer,
    BalancerServicer,
    FirewallServicer,
    RoutingServicer,
    CaptureServicer,
    pb_grpc.DPDKironcoreServicer,
):
    """`netdevs` maps device names of the API to the kernel's; `version` is what GetVersion answers."""

    def __init__(self, dataplane: Dataplane, netdevs: Mapping[str, str], version: str) -> None:
        super().__init__(dataplane, netdevs)
        self._version = version

    @answers(pb.InitializeResponse, engine_failed=RouteReset, before_initialize=True)
    def Initialize(self, request: pb.InitializeRequest, context: grpc.ServicerContext) -> Any:
        """Always succeeds; drops every external route, alias prefix and neighbor NAT."""
        self._dataplane.initialize()
        return pb.InitializeResponse(status=SUCCESS, uuid=self._dataplane.uuid)

    @answers(pb.CheckInitializedResponse)
    def CheckInitialized(self, request: pb.CheckInitializedRequest, context: grpc.ServicerContext) -> Any:
        return pb.CheckInitializedResponse(status=SUCCESS, uuid=self._dataplane.uuid)

    @answers(pb.GetVersionResponse)
    def GetVersion(self, request: pb.GetVersionRequest, context: grpc.ServicerContext) -> Any:
        decode.client_version(request)
        return pb.GetVersionResponse(status=SUCCESS, service_protocol=self._version, service_version=self._version)
