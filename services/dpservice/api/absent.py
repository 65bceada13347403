"""Features that this data plane does not have, as clients see them: nothing of the kind exists.

Who wants one is refused: its Create is UNIMPLEMENTED. But agents look for what is there before they make or remove
anything (IronCore's metalnet asks for VIP, NAT, load balancer prefixes and firewall rules of every interface, also of
those that shall have none), so that reads and deletes answer like a data plane in which nobody has made one.
"""

from __future__ import annotations

from typing import Any

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from services.dpservice.api import decode
from services.dpservice.api.answers import SUCCESS, answers, unserved
from services.dpservice.dataplane import Dataplane
from services.dpservice.model.errors import LoadBalancerUnknown, NoPublicAddress, NotFound, NotInitialized
from services.dpservice.model.state import Model


class AbsentFeatures(pb_grpc.DPDKironcoreServicer):
    """Base of the servicer; what neither it nor the servicer answers is UNIMPLEMENTED."""

    _dataplane: Dataplane

    # VIP and NAT

    @answers(pb.GetVipResponse)
    def GetVip(self, request: pb.GetVipRequest, context: grpc.ServicerContext) -> Any:
        self._no_public_address(request.interface_id)

    @answers(pb.DeleteVipResponse)
    def DeleteVip(self, request: pb.DeleteVipRequest, context: grpc.ServicerContext) -> Any:
        self._no_public_address(request.interface_id)

    @answers(pb.GetNatResponse)
    def GetNat(self, request: pb.GetNatRequest, context: grpc.ServicerContext) -> Any:
        self._no_public_address(request.interface_id)

    @answers(pb.DeleteNatResponse)
    def DeleteNat(self, request: pb.DeleteNatRequest, context: grpc.ServicerContext) -> Any:
        self._no_public_address(request.interface_id)

    @answers(pb.ListLocalNatsResponse)
    def ListLocalNats(self, request: pb.ListLocalNatsRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        return pb.ListLocalNatsResponse(status=SUCCESS)

    @answers(pb.ListNeighborNatsResponse)
    def ListNeighborNats(self, request: pb.ListNeighborNatsRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        return pb.ListNeighborNatsResponse(status=SUCCESS)

    @answers(pb.DeleteNeighborNatResponse)
    def DeleteNeighborNat(self, request: pb.DeleteNeighborNatRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        raise NotFound("no neighbor NAT")

    # Load balancers

    @answers(pb.ListLoadBalancerPrefixesResponse)
    def ListLoadBalancerPrefixes(
        self, request: pb.ListLoadBalancerPrefixesRequest, context: grpc.ServicerContext
    ) -> Any:
        self._check_interface(request.interface_id)
        return pb.ListLoadBalancerPrefixesResponse(status=SUCCESS)

    @answers(pb.DeleteLoadBalancerPrefixResponse)
    def DeleteLoadBalancerPrefix(
        self, request: pb.DeleteLoadBalancerPrefixRequest, context: grpc.ServicerContext
    ) -> Any:
        self._check_interface(request.interface_id)
        raise NotFound("no load balancer prefix")

    @answers(pb.ListLoadBalancersResponse)
    def ListLoadBalancers(self, request: pb.ListLoadBalancersRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        return pb.ListLoadBalancersResponse(status=SUCCESS)

    @answers(pb.GetLoadBalancerResponse)
    def GetLoadBalancer(self, request: pb.GetLoadBalancerRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        raise NotFound("no load balancer")

    @answers(pb.DeleteLoadBalancerResponse)
    def DeleteLoadBalancer(self, request: pb.DeleteLoadBalancerRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        raise NotFound("no load balancer")

    @answers(pb.ListLoadBalancerTargetsResponse)
    def ListLoadBalancerTargets(self, request: pb.ListLoadBalancerTargetsRequest, context: grpc.ServicerContext) -> Any:
        self._check_initialized()
        if request.loadbalancer_id:
            raise LoadBalancerUnknown("no load balancer")
        return pb.ListLoadBalancerTargetsResponse(status=SUCCESS)

    @answers(pb.DeleteLoadBalancerTargetResponse)
    def DeleteLoadBalancerTarget(
        self, request: pb.DeleteLoadBalancerTargetRequest, context: grpc.ServicerContext
    ) -> Any:
        self._check_initialized()
        raise LoadBalancerUnknown("no load balancer")

    # Firewall

    @answers(pb.ListFirewallRulesResponse)
    def ListFirewallRules(self, request: pb.ListFirewallRulesRequest, context: grpc.ServicerContext) -> Any:
        self._check_interface(request.interface_id)
        return pb.ListFirewallRulesResponse(status=SUCCESS)

    @answers(pb.GetFirewallRuleResponse)
    def GetFirewallRule(self, request: pb.GetFirewallRuleRequest, context: grpc.ServicerContext) -> Any:
        self._check_interface(request.interface_id)
        raise NotFound("no firewall rule")

    @answers(pb.DeleteFirewallRuleResponse)
    def DeleteFirewallRule(self, request: pb.DeleteFirewallRuleRequest, context: grpc.ServicerContext) -> Any:
        self._check_interface(request.interface_id)
        raise NotFound("no firewall rule")

    def _check_initialized(self) -> None:
        if not self._dataplane.read(_is_initialized):
            raise NotInitialized

    def _check_interface(self, raw: bytes) -> None:
        """Raises InterfaceUnknown 205."""
        self._check_initialized()
        wanted = decode.interface_id(raw)
        self._dataplane.read(lambda model: model.prefixes(wanted))

    def _no_public_address(self, raw: bytes) -> None:
        self._check_interface(raw)
        raise NoPublicAddress("no VIP and no NAT")


def _is_initialized(model: Model) -> bool:
    return model.initialized


for _rpc in pb.DESCRIPTOR.services_by_name["DPDKironcore"].methods_by_name:
    if _rpc not in vars(AbsentFeatures):
        setattr(AbsentFeatures, _rpc, unserved(_rpc))
