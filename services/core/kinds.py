"""The kinds that the core API server serves: the built-in ones and all of *.ironcore.dev."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import Message

from protos.compute.v1alpha1.machine_class_pb2 import MachineClass
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.core.v1alpha1.resource_quota_pb2 import ResourceQuota
from protos.ipam.v1alpha1.prefix_allocation_pb2 import PrefixAllocation
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.networking.v1alpha1.load_balancer_pb2 import LoadBalancer
from protos.networking.v1alpha1.load_balancer_routing_pb2 import LoadBalancerRouting
from protos.networking.v1alpha1.nat_gateway_pb2 import NATGateway
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.network_pb2 import Network
from protos.networking.v1alpha1.network_policy_pb2 import NetworkPolicy
from protos.networking.v1alpha1.virtual_ip_pb2 import VirtualIP
from protos.storage.v1alpha1.bucket_class_pb2 import BucketClass
from protos.storage.v1alpha1.bucket_pb2 import Bucket
from protos.storage.v1alpha1.bucket_pool_pb2 import BucketPool
from protos.storage.v1alpha1.volume_class_pb2 import VolumeClass
from protos.storage.v1alpha1.volume_pb2 import Volume
from protos.storage.v1alpha1.volume_pool_pb2 import VolumePool
from protos.storage.v1alpha1.volume_snapshot_pb2 import VolumeSnapshot
from services.apimachinery.server.allocation import Allocator
from services.apimachinery.server.builtin import EVENT_LIFETIME, builtin
from services.apimachinery.server.resource import Definition
from services.core.model.address_index import PrefixAllocationIndex
from services.core.model.hooks import HOOKS

KINDS: Final[tuple[type[Message], ...]] = (
    ResourceQuota,
    Machine,
    MachineClass,
    MachinePool,
    Volume,
    VolumeClass,
    VolumePool,
    VolumeSnapshot,
    Bucket,
    BucketClass,
    BucketPool,
    Network,
    NetworkInterface,
    NetworkPolicy,
    VirtualIP,
    LoadBalancer,
    LoadBalancerRouting,
    NATGateway,
    Prefix,
    PrefixAllocation,
)

ALLOCATORS: Final[Mapping[type[Message], Allocator]] = {PrefixAllocation: PrefixAllocationIndex()}


def definitions(event_lifetime: int = EVENT_LIFETIME) -> list[Definition]:
    """All stored kinds of the core API server; the reviews come with its authorizer."""
    own = [Definition(kind, hooks=HOOKS.get(kind), allocator=ALLOCATORS.get(kind)) for kind in KINDS]
    return [*builtin(event_lifetime), *own]
