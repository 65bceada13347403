"""Routes and VNIs."""

from __future__ import annotations

from typing import Any, Final

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.api import decode, encode
from services.dpservice.api.answers import Door, answers
from services.dpservice.api.encode import SUCCESS
from services.dpservice.model.errors import RouteInsert, RouteReset, WrongType
from services.dpservice.model.rows import Vni

CREATED: Final = pb.CreateRouteResponse(status=SUCCESS)
DELETED: Final = pb.DeleteRouteResponse(status=SUCCESS)


class RoutingServicer(Door):
    """External routes, and the VNIs that they are in."""

    @answers(pb.ListRoutesResponse)
    def ListRoutes(self, request: pb.ListRoutesRequest, context: grpc.ServicerContext) -> Any:
        """External routes of both families; VNI 0 means all."""
        found = self._dataplane.read(lambda model: list(model.routes(Vni(request.vni))))
        return pb.ListRoutesResponse(status=SUCCESS, routes=[encode.route(prefix, hop) for _, prefix, hop in found])

    @answers(pb.CreateRouteResponse, engine_failed=RouteInsert)
    def CreateRoute(self, request: pb.CreateRouteRequest, context: grpc.ServicerContext) -> Any:
        prefix, hop = decode.route(request.route)
        self._dataplane.change(lambda model: (None, model.create_route(Vni(request.vni), prefix, hop)))
        return CREATED

    @answers(pb.DeleteRouteResponse, engine_failed=RouteInsert)
    def DeleteRoute(self, request: pb.DeleteRouteRequest, context: grpc.ServicerContext) -> Any:
        """The next hop of the request is ignored."""
        prefix = decode.route_prefix(request.route)
        self._dataplane.change(lambda model: (None, model.delete_route(Vni(request.vni), prefix)))
        return DELETED

    @answers(pb.CheckVniInUseResponse)
    def CheckVniInUse(self, request: pb.CheckVniInUseRequest, context: grpc.ServicerContext) -> Any:
        if decode.vni_type(request.type) == pb.VNI_BOTH:
            raise WrongType("one family at a time")
        in_use = self._dataplane.read(lambda model: model.uses(Vni(request.vni)))
        return pb.CheckVniInUseResponse(status=SUCCESS, in_use=in_use)

    @answers(pb.ResetVniResponse, engine_failed=RouteReset)
    def ResetVni(self, request: pb.ResetVniRequest, context: grpc.ServicerContext) -> Any:
        if decode.vni_type(request.type) != pb.VNI_BOTH:
            raise WrongType("both families or none")
        self._dataplane.change(lambda model: (None, model.reset_vni(Vni(request.vni))))
        return pb.ResetVniResponse(status=SUCCESS)
