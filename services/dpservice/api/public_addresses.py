"""VIP, NAT and neighbor NAT."""

from __future__ import annotations

from typing import Any

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.api import decode, encode
from services.dpservice.api.answers import Door, answers
from services.dpservice.api.encode import SUCCESS, text
from services.dpservice.model.errors import OutOfMemory, PublicAddressDelete, PublicAddressInsert, UnderlayDelete
from services.dpservice.model.rows import Vni


class PublicAddressServicer(Door):
    """Public addresses of interfaces, and slices of them that other hosts own."""

    @answers(pb.CreateVipResponse, engine_failed=PublicAddressInsert)
    def CreateVip(self, request: pb.CreateVipRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        address = decode.address(request.vip_ip, "vip_ip")
        chosen = decode.preferred(request.preferred_underlay_route, self._dataplane.allocator)
        vip = self._dataplane.change(lambda model: model.create_vip(wanted, address, chosen))
        return pb.CreateVipResponse(status=SUCCESS, underlay_route=text(vip.underlay))

    @answers(pb.GetVipResponse)
    def GetVip(self, request: pb.GetVipRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        vip = self._dataplane.read(lambda model: model.vip(wanted))
        return pb.GetVipResponse(status=SUCCESS, vip_ip=encode.address(vip.address), underlay_route=text(vip.underlay))

    @answers(pb.DeleteVipResponse, engine_failed=UnderlayDelete)
    def DeleteVip(self, request: pb.DeleteVipRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        self._dataplane.change(lambda model: (None, model.delete_vip(wanted)))
        return pb.DeleteVipResponse(status=SUCCESS)

    @answers(pb.CreateNatResponse, engine_failed=PublicAddressInsert)
    def CreateNat(self, request: pb.CreateNatRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        address = decode.address(request.nat_ip, "nat_ip")
        ports = decode.port_range(request.min_port, request.max_port)
        chosen = decode.preferred(request.preferred_underlay_route, self._dataplane.allocator)
        nat = self._dataplane.change(lambda model: model.create_nat(wanted, address, *ports, chosen))
        return pb.CreateNatResponse(status=SUCCESS, underlay_route=text(nat.underlay))

    @answers(pb.GetNatResponse)
    def GetNat(self, request: pb.GetNatRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        nat = self._dataplane.read(lambda model: model.nat(wanted))
        return pb.GetNatResponse(
            status=SUCCESS,
            nat_ip=encode.address(nat.address),
            min_port=nat.min_port,
            max_port=nat.max_port,
            underlay_route=text(nat.underlay),
        )

    @answers(pb.DeleteNatResponse, engine_failed=UnderlayDelete)
    def DeleteNat(self, request: pb.DeleteNatRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        self._dataplane.change(lambda model: (None, model.delete_nat(wanted)))
        return pb.DeleteNatResponse(status=SUCCESS)

    @answers(pb.ListLocalNatsResponse)
    def ListLocalNats(self, request: pb.ListLocalNatsRequest, context: grpc.ServicerContext) -> Any:
        """0.0.0.0 asks for all."""
        address = decode.address(request.nat_ip, "nat_ip")
        found = self._dataplane.read(lambda model: model.local_nats(address))
        return pb.ListLocalNatsResponse(status=SUCCESS, nat_entries=[encode.local_nat(each) for each in found])

    @answers(pb.CreateNeighborNatResponse, engine_failed=OutOfMemory)
    def CreateNeighborNat(self, request: pb.CreateNeighborNatRequest, context: grpc.ServicerContext) -> Any:
        neighbor = decode.neighbor(request)
        self._dataplane.change(lambda model: (None, model.create_neighbor(*neighbor)))
        return pb.CreateNeighborNatResponse(status=SUCCESS)

    @answers(pb.DeleteNeighborNatResponse, engine_failed=PublicAddressDelete)
    def DeleteNeighborNat(self, request: pb.DeleteNeighborNatRequest, context: grpc.ServicerContext) -> Any:
        address = decode.address(request.nat_ip, "nat_ip")
        ports = decode.port_range(request.min_port, request.max_port)
        self._dataplane.change(lambda model: (None, model.delete_neighbor(Vni(request.vni), address, *ports)))
        return pb.DeleteNeighborNatResponse(status=SUCCESS)

    @answers(pb.ListNeighborNatsResponse)
    def ListNeighborNats(self, request: pb.ListNeighborNatsRequest, context: grpc.ServicerContext) -> Any:
        """0.0.0.0 asks for all."""
        address = decode.address(request.nat_ip, "nat_ip")
        found = self._dataplane.read(lambda model: model.neighbors(address))
        entries = [encode.neighbor_nat(key, neighbor) for key, neighbor in found]
        return pb.ListNeighborNatsResponse(status=SUCCESS, nat_entries=entries)
