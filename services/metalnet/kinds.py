"""The kinds that a partition's API server serves."""

from __future__ import annotations

from protos.k8s.coordination.v1.lease_pb2 import Lease
from protos.k8s.core.v1 import event_pb2 as core_event
from protos.k8s.core.v1.node_pb2 import Node
from protos.k8s.events.v1 import event_pb2 as events_event
from protos.metalnet.v1alpha1.load_balancer_pb2 import LoadBalancer
from protos.metalnet.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.metalnet.v1alpha1.network_pb2 import Network
from services.apimachinery.server.builtin import EVENT_LIFETIME, builtin
from services.apimachinery.server.resource import Definition, define
from services.metalnet.model.hooks import LoadBalancerHooks, NetworkHooks, NetworkInterfaceHooks

# Of the built-in kinds only these: rights and namespaces are the core API's.
BUILTIN = (Lease, core_event.Event, events_event.Event)


def definitions(event_lifetime: int = EVENT_LIFETIME) -> list[Definition]:
    """What is served; events expire after `event_lifetime` seconds."""
    return [
        define(Network, hooks=NetworkHooks()),
        define(NetworkInterface, hooks=NetworkInterfaceHooks()),
        # IronCore's agent does not start without this kind; Ferrite's own does not realise it yet.
        define(LoadBalancer, hooks=LoadBalancerHooks()),
        define(Node),
        *(definition for definition in builtin(event_lifetime) if definition.message in BUILTIN),
    ]
