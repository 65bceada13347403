"""The kinds of core.apinet.ironcore.dev that this API server serves."""

from __future__ import annotations

from protos.net.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.net.v1alpha1.network_pb2 import Network
from protos.net.v1alpha1.node_pb2 import Node
from services.apimachinery.server.resource import Definition, define
from services.net.allocators import InterfaceAddresses, NetworkNumbers
from services.net.model.hooks import NetworkHooks, NetworkInterfaceHooks


def definitions(min_vni: int, max_vni: int) -> list[Definition]:
    """What is served; networks get numbers in [min_vni, max_vni]."""
    return [
        define(Network, hooks=NetworkHooks(min_vni, max_vni), allocator=NetworkNumbers(min_vni, max_vni)),
        define(NetworkInterface, hooks=NetworkInterfaceHooks(), allocator=InterfaceAddresses()),
        define(Node),
    ]
