"""Controllers `networkinterfaceephemeralprefix` and `loadbalancerephemeralprefix`: prefixes made for addresses."""

from __future__ import annotations

from collections.abc import Iterable

from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.networking.v1alpha1.load_balancer_pb2 import LoadBalancer
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from services.apimachinery.runtime.manager import Manager
from services.core.controllers.ephemeral import EphemeralChildren
from services.core.model import ephemeral


class InterfacePrefixes(EphemeralChildren[NetworkInterface, Prefix]):
    """Makes `<nic>-<index>` for addresses and `<nic>-pf-<index>` for routed prefixes."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager, "network-interface-ephemeral-prefix", NetworkInterface, Prefix)

    async def wanted(self, owner: NetworkInterface) -> list[Prefix]:
        """See `model.ephemeral.interface_prefixes_of`."""
        return ephemeral.interface_prefixes_of(owner)

    def names(self, owner: NetworkInterface) -> Iterable[str]:
        """Of all sources with a template."""
        return ephemeral.interface_prefix_names(owner)


class LoadBalancerPrefixes(EphemeralChildren[LoadBalancer, Prefix]):
    """Makes `<load balancer>-<index>`."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager, "load-balancer-ephemeral-prefix", LoadBalancer, Prefix)

    async def wanted(self, owner: LoadBalancer) -> list[Prefix]:
        """See `model.ephemeral.load_balancer_prefixes_of`."""
        return ephemeral.load_balancer_prefixes_of(owner)

    def names(self, owner: LoadBalancer) -> Iterable[str]:
        """Of all sources with a template."""
        return ephemeral.address_prefix_names(owner.metadata.name, owner.spec.ips)
