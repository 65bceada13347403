"""Load balancers and their targets."""

from __future__ import annotations

from typing import Any

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.api import decode, encode
from services.dpservice.api.answers import Door, answers
from services.dpservice.api.encode import SUCCESS, text
from services.dpservice.model.errors import OutOfMemory, TargetDelete, TargetLimit, VniFree
from services.dpservice.model.rows import BalancerId, IPAddress


class BalancerServicer(Door):
    """Load balancers; the prefixes of their targets are with the other prefixes."""

    @answers(pb.CreateLoadBalancerResponse, engine_failed=OutOfMemory)
    def CreateLoadBalancer(self, request: pb.CreateLoadBalancerRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.new_balancer(request, self._dataplane.allocator)
        balancer = self._dataplane.change(lambda model: model.create_balancer(wanted))
        return pb.CreateLoadBalancerResponse(status=SUCCESS, underlay_route=text(balancer.underlay))

    @answers(pb.GetLoadBalancerResponse)
    def GetLoadBalancer(self, request: pb.GetLoadBalancerRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.balancer_id(request.loadbalancer_id)
        key, balancer = self._dataplane.read(lambda model: model.balancer(wanted))
        return pb.GetLoadBalancerResponse(
            status=SUCCESS,
            loadbalanced_ip=encode.address(key.address),
            vni=key.vni,
            loadbalanced_ports=encode.balancer_ports(balancer.ports),
            underlay_route=text(balancer.underlay),
        )

    @answers(pb.DeleteLoadBalancerResponse, engine_failed=VniFree)
    def DeleteLoadBalancer(self, request: pb.DeleteLoadBalancerRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.balancer_id(request.loadbalancer_id)
        self._dataplane.change(lambda model: (None, model.delete_balancer(wanted)))
        return pb.DeleteLoadBalancerResponse(status=SUCCESS)

    @answers(pb.ListLoadBalancersResponse)
    def ListLoadBalancers(self, request: pb.ListLoadBalancersRequest, context: grpc.ServicerContext) -> Any:
        found = self._dataplane.read(lambda model: model.balancers())
        balancers = [encode.balancer(key, balancer) for key, balancer in found]
        return pb.ListLoadBalancersResponse(status=SUCCESS, loadbalancers=balancers)

    @answers(pb.CreateLoadBalancerTargetResponse, engine_failed=TargetLimit)
    def CreateLoadBalancerTarget(
        self, request: pb.CreateLoadBalancerTargetRequest, context: grpc.ServicerContext
    ) -> Any:
        wanted, target = self._target(request)
        self._dataplane.change(lambda model: (None, model.create_target(wanted, target)))
        return pb.CreateLoadBalancerTargetResponse(status=SUCCESS)

    @answers(pb.DeleteLoadBalancerTargetResponse, engine_failed=TargetDelete)
    def DeleteLoadBalancerTarget(
        self, request: pb.DeleteLoadBalancerTargetRequest, context: grpc.ServicerContext
    ) -> Any:
        wanted, target = self._target(request)
        self._dataplane.change(lambda model: (None, model.delete_target(wanted, target)))
        return pb.DeleteLoadBalancerTargetResponse(status=SUCCESS)

    @answers(pb.ListLoadBalancerTargetsResponse)
    def ListLoadBalancerTargets(self, request: pb.ListLoadBalancerTargetsRequest, context: grpc.ServicerContext) -> Any:
        """Without an id: the targets of all."""
        wanted = decode.balancer_id(request.loadbalancer_id) if request.loadbalancer_id else None
        found = self._dataplane.read(lambda model: model.targets(wanted))
        targets = [encode.address(target) for target in found]
        return pb.ListLoadBalancerTargetsResponse(status=SUCCESS, target_ips=targets)

    @staticmethod
    def _target(
        request: pb.CreateLoadBalancerTargetRequest | pb.DeleteLoadBalancerTargetRequest,
    ) -> tuple[BalancerId, IPAddress]:
        return decode.balancer_id(request.loadbalancer_id), decode.address(request.target_ip, "target_ip")
