"""Interfaces and their prefixes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.api import decode, encode
from services.dpservice.api.answers import Door, answers
from services.dpservice.api.encode import SUCCESS, text
from services.dpservice.dataplane import Dataplane
from services.dpservice.model.errors import PortStart, PortStop, UnderlayDelete, UnderlayTaken
from services.dpservice.model.rows import InterfaceId, IPNetwork
from services.dpservice.model.underlay import UnderlayAddress


class InterfaceServicer(Door):
    """`netdevs` maps device names of the API to the kernel's."""

    def __init__(self, dataplane: Dataplane, netdevs: Mapping[str, str]) -> None:
        super().__init__(dataplane)
        self._netdevs = netdevs

    @answers(pb.ListInterfacesResponse)
    def ListInterfaces(self, request: pb.ListInterfacesRequest, context: grpc.ServicerContext) -> Any:
        found = self._dataplane.read(lambda model: model.interfaces())
        return pb.ListInterfacesResponse(status=SUCCESS, interfaces=[encode.interface(each) for each in found])

    @answers(pb.GetInterfaceResponse)
    def GetInterface(self, request: pb.GetInterfaceRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        found = self._dataplane.read(lambda model: model.interface(wanted))
        return pb.GetInterfaceResponse(status=SUCCESS, interface=encode.interface(found))

    @answers(pb.CreateInterfaceResponse, engine_failed=PortStart)
    def CreateInterface(self, request: pb.CreateInterfaceRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.new_interface(request, self._dataplane.allocator)
        made = self._dataplane.change(lambda model: model.create_interface(wanted))
        return pb.CreateInterfaceResponse(
            status=SUCCESS,
            underlay_route=text(made.underlay),
            vf=pb.VirtualFunction(name=self._netdevs[made.device]),
        )

    @answers(pb.DeleteInterfaceResponse, engine_failed=PortStop)
    def DeleteInterface(self, request: pb.DeleteInterfaceRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        self._dataplane.change(lambda model: (None, model.delete_interface(wanted)))
        return pb.DeleteInterfaceResponse(status=SUCCESS)

    @answers(pb.ListPrefixesResponse)
    def ListPrefixes(self, request: pb.ListPrefixesRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        found = self._dataplane.read(lambda model: model.prefixes(wanted))
        return pb.ListPrefixesResponse(status=SUCCESS, prefixes=_prefixes(found))

    @answers(pb.CreatePrefixResponse, engine_failed=UnderlayTaken)
    def CreatePrefix(self, request: pb.CreatePrefixRequest, context: grpc.ServicerContext) -> Any:
        wanted, prefix = _owned(request)
        chosen = decode.preferred(request.preferred_underlay_route, self._dataplane.allocator)
        underlay = self._dataplane.change(lambda model: model.create_prefix(wanted, prefix, chosen))
        return pb.CreatePrefixResponse(status=SUCCESS, underlay_route=text(underlay))

    @answers(pb.DeletePrefixResponse, engine_failed=UnderlayDelete)
    def DeletePrefix(self, request: pb.DeletePrefixRequest, context: grpc.ServicerContext) -> Any:
        wanted, prefix = _owned(request)
        self._dataplane.change(lambda model: (None, model.delete_prefix(wanted, prefix)))
        return pb.DeletePrefixResponse(status=SUCCESS)

    @answers(pb.ListLoadBalancerPrefixesResponse)
    def ListLoadBalancerPrefixes(
        self, request: pb.ListLoadBalancerPrefixesRequest, context: grpc.ServicerContext
    ) -> Any:
        wanted = decode.interface_id(request.interface_id)
        found = self._dataplane.read(lambda model: model.balancer_prefixes(wanted))
        return pb.ListLoadBalancerPrefixesResponse(status=SUCCESS, prefixes=_prefixes(found))

    @answers(pb.CreateLoadBalancerPrefixResponse, engine_failed=UnderlayTaken)
    def CreateLoadBalancerPrefix(
        self, request: pb.CreateLoadBalancerPrefixRequest, context: grpc.ServicerContext
    ) -> Any:
        wanted, prefix = _owned(request)
        chosen = decode.preferred(request.preferred_underlay_route, self._dataplane.allocator)
        underlay = self._dataplane.change(lambda model: model.create_balancer_prefix(wanted, prefix, chosen))
        return pb.CreateLoadBalancerPrefixResponse(status=SUCCESS, underlay_route=text(underlay))

    @answers(pb.DeleteLoadBalancerPrefixResponse, engine_failed=UnderlayDelete)
    def DeleteLoadBalancerPrefix(
        self, request: pb.DeleteLoadBalancerPrefixRequest, context: grpc.ServicerContext
    ) -> Any:
        wanted, prefix = _owned(request)
        self._dataplane.change(lambda model: (None, model.delete_balancer_prefix(wanted, prefix)))
        return pb.DeleteLoadBalancerPrefixResponse(status=SUCCESS)


def _owned(request: Any) -> tuple[InterfaceId, IPNetwork]:
    return decode.interface_id(request.interface_id), decode.prefix(request.prefix)


def _prefixes(found: list[tuple[IPNetwork, UnderlayAddress]]) -> list[pb.Prefix]:
    return [encode.prefix(prefix, text(underlay)) for prefix, underlay in found]
