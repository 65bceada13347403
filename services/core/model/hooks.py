"""Which kind has which rules beyond its schema. Kinds that are not listed have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import Message

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.core.v1alpha1.resource_quota_pb2 import ResourceQuota
from protos.ipam.v1alpha1.prefix_allocation_pb2 import PrefixAllocation
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.networking.v1alpha1.load_balancer_pb2 import LoadBalancer
from protos.networking.v1alpha1.load_balancer_routing_pb2 import LoadBalancerRouting
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.network_pb2 import Network
from protos.networking.v1alpha1.network_policy_pb2 import NetworkPolicy
from protos.storage.v1alpha1.bucket_pb2 import Bucket
from protos.storage.v1alpha1.bucket_pool_pb2 import BucketPool
from protos.storage.v1alpha1.volume_pb2 import Volume
from protos.storage.v1alpha1.volume_pool_pb2 import VolumePool
from services.apimachinery.schema.hooks import KindHooks
from services.core.model.address_sources import NetworkInterfaceHooks
from services.core.model.load_balancer_rules import LoadBalancerHooks
from services.core.model.machine_rules import MachineHooks
from services.core.model.network_rules import NetworkHooks, NetworkPolicyHooks
from services.core.model.prefix_rules import PrefixAllocationHooks, PrefixHooks
from services.core.model.quota_rules import ResourceQuotaHooks
from services.core.model.renderers import PoolHooks, RoutingHooks
from services.core.model.volume_rules import BucketHooks, VolumeHooks

HOOKS: Final[Mapping[type[Message], KindHooks]] = {
    Bucket: BucketHooks(),
    BucketPool: PoolHooks(),
    LoadBalancer: LoadBalancerHooks(),
    LoadBalancerRouting: RoutingHooks(),
    Machine: MachineHooks(),
    MachinePool: PoolHooks(),
    Network: NetworkHooks(),
    NetworkInterface: NetworkInterfaceHooks(),
    NetworkPolicy: NetworkPolicyHooks(),
    Prefix: PrefixHooks(),
    PrefixAllocation: PrefixAllocationHooks(),
    ResourceQuota: ResourceQuotaHooks(),
    Volume: VolumeHooks(),
    VolumePool: PoolHooks(),
}
