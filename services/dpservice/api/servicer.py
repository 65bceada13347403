"""The DPDKironcore service: decode, change or read, answer. See `absent` for what is not here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.api import decode
from services.dpservice.api.absent import AbsentFeatures
from services.dpservice.api.answers import SUCCESS, answers
from services.dpservice.dataplane import Dataplane
from services.dpservice.model.errors import (
    PortStart,
    PortStop,
    RouteInsert,
    RouteReset,
    UnderlayDelete,
    UnderlayTaken,
    WrongType,
)
from services.dpservice.model.rows import Interface, IPNetwork, RemoteHop, Vni


class DataplaneServicer(AbsentFeatures):
    """`netdevs` maps device names of the API to the kernel's; `version` is what GetVersion answers."""

    def __init__(self, dataplane: Dataplane, netdevs: Mapping[str, str], version: str) -> None:
        self._dataplane, self._netdevs, self._version = dataplane, netdevs, version

    # Lifecycle

    @answers(pb.InitializeResponse, engine_failed=RouteReset)
    def Initialize(self, request: pb.InitializeRequest, context: grpc.ServicerContext) -> Any:
        """Always succeeds; drops every external route and alias prefix."""
        self._dataplane.change(lambda model: (None, model.initialize()))
        return pb.InitializeResponse(status=SUCCESS, uuid=self._dataplane.uuid)

    @answers(pb.CheckInitializedResponse)
    def CheckInitialized(self, request: pb.CheckInitializedRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        return pb.CheckInitializedResponse(status=SUCCESS, uuid=self._dataplane.uuid)

    @answers(pb.GetVersionResponse)
    def GetVersion(self, request: pb.GetVersionRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        decode.client_version(request)
        return pb.GetVersionResponse(status=SUCCESS, service_protocol=self._version, service_version=self._version)

    # Interfaces

    @answers(pb.ListInterfacesResponse)
    def ListInterfaces(self, request: pb.ListInterfacesRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        interfaces = self._dataplane.read(lambda model: model.interfaces())
        return pb.ListInterfacesResponse(status=SUCCESS, interfaces=[_interface(each) for each in interfaces])

    @answers(pb.GetInterfaceResponse)
    def GetInterface(self, request: pb.GetInterfaceRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        wanted = decode.interface_id(request.interface_id)
        interface = self._dataplane.read(lambda model: model.interface(wanted))
        return pb.GetInterfaceResponse(status=SUCCESS, interface=_interface(interface))

    @answers(pb.CreateInterfaceResponse, engine_failed=PortStart)
    def CreateInterface(self, request: pb.CreateInterfaceRequest, context: grpc.ServicerContext) -> Any:
        """Metering values are ignored, as the original does on ports without hardware for it."""
        self._check_initialized()
        wanted = decode.new_interface(request, self._dataplane.allocator)
        interface = self._dataplane.change(lambda model: model.create_interface(wanted))
        return pb.CreateInterfaceResponse(
            status=SUCCESS,
            underlay_route=str(interface.underlay).encode(),
            vf=pb.VirtualFunction(name=self._netdevs[interface.device]),
        )

    @answers(pb.DeleteInterfaceResponse, engine_failed=PortStop)
    def DeleteInterface(self, request: pb.DeleteInterfaceRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        wanted = decode.interface_id(request.interface_id)
        self._dataplane.change(lambda model: (None, model.delete_interface(wanted)))
        return pb.DeleteInterfaceResponse(status=SUCCESS)

    # Alias prefixes

    @answers(pb.ListPrefixesResponse)
    def ListPrefixes(self, request: pb.ListPrefixesRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        wanted = decode.interface_id(request.interface_id)
        found = self._dataplane.read(lambda model: model.prefixes(wanted))
        prefixes = [_prefix(prefix, str(underlay).encode()) for prefix, underlay in found]
        return pb.ListPrefixesResponse(status=SUCCESS, prefixes=prefixes)

    @answers(pb.CreatePrefixResponse, engine_failed=UnderlayTaken)
    def CreatePrefix(self, request: pb.CreatePrefixRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        wanted = decode.interface_id(request.interface_id)
        prefix = decode.prefix(request.prefix, "prefix")
        preferred = decode.preferred(request.preferred_underlay_route, self._dataplane.allocator)
        underlay = self._dataplane.change(lambda model: model.create_prefix(wanted, prefix, preferred))
        return pb.CreatePrefixResponse(status=SUCCESS, underlay_route=str(underlay).encode())

    @answers(pb.DeletePrefixResponse, engine_failed=UnderlayDelete)
    def DeletePrefix(self, request: pb.DeletePrefixRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        wanted = decode.interface_id(request.interface_id)
        prefix = decode.prefix(request.prefix, "prefix")
        self._dataplane.change(lambda model: (None, model.delete_prefix(wanted, prefix)))
        return pb.DeletePrefixResponse(status=SUCCESS)

    # Routes and VNIs

    @answers(pb.ListRoutesResponse)
    def ListRoutes(self, request: pb.ListRoutesRequest, context: grpc.ServicerContext) -> Any:
        """External routes of both families; VNI 0 means all."""
        self._check_initialized()
        found = self._dataplane.read(lambda model: model.routes(Vni(request.vni)))
        return pb.ListRoutesResponse(status=SUCCESS, routes=[_route(prefix, hop) for _, prefix, hop in found])

    @answers(pb.CreateRouteResponse, engine_failed=RouteInsert)
    def CreateRoute(self, request: pb.CreateRouteRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        prefix, hop = decode.route(request.route)
        self._dataplane.change(lambda model: (None, model.create_route(Vni(request.vni), prefix, hop)))
        return pb.CreateRouteResponse(status=SUCCESS)

    @answers(pb.DeleteRouteResponse, engine_failed=RouteInsert)
    def DeleteRoute(self, request: pb.DeleteRouteRequest, context: grpc.ServicerContext) -> Any:
        """The next hop of the request is ignored."""
        self._check_initialized()
        prefix = decode.route_prefix(request.route)
        self._dataplane.change(lambda model: (None, model.delete_route(Vni(request.vni), prefix)))
        return pb.DeleteRouteResponse(status=SUCCESS)

    @answers(pb.CheckVniInUseResponse)
    def CheckVniInUse(self, request: pb.CheckVniInUseRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        if decode.vni_type(request.type) == pb.VNI_BOTH:
            raise WrongType("one family at a time")
        in_use = self._dataplane.read(lambda model: model.uses(Vni(request.vni)))
        return pb.CheckVniInUseResponse(status=SUCCESS, in_use=in_use)

    @answers(pb.ResetVniResponse, engine_failed=RouteReset)
    def ResetVni(self, request: pb.ResetVniRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        if decode.vni_type(request.type) != pb.VNI_BOTH:
            raise WrongType("both families or none")
        self._dataplane.change(lambda model: (None, model.reset_vni(Vni(request.vni))))
        return pb.ResetVniResponse(status=SUCCESS)


def _interface(interface: Interface) -> pb.Interface:
    return pb.Interface(
        id=interface.id.encode(),
        vni=interface.vni,
        primary_ipv4=str(interface.ipv4 or "0.0.0.0").encode(),
        primary_ipv6=str(interface.ipv6 or "::").encode(),
        underlay_route=str(interface.underlay).encode(),
        pci_name=interface.device,
        meteringParams=pb.MeteringParams(total_rate=0, public_rate=0),
        hostname=interface.hostname,
    )


def _prefix(prefix: IPNetwork, underlay: bytes = b"") -> pb.Prefix:
    address = pb.IpAddress(
        ipver=pb.IPV6 if prefix.version == 6 else pb.IPV4, address=str(prefix.network_address).encode()
    )
    return pb.Prefix(ip=address, length=prefix.prefixlen, underlay_route=underlay)


def _route(prefix: IPNetwork, hop: RemoteHop) -> pb.Route:
    return pb.Route(
        prefix=_prefix(prefix),
        nexthop_vni=hop.vni,
        nexthop_address=pb.IpAddress(ipver=pb.IPV6, address=str(hop.underlay).encode()),
    )
