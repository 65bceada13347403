"""Controller `networkprotection`: a network stays as long as something in its namespace uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import Message

from protos.networking.v1alpha1.load_balancer_pb2 import LoadBalancer
from protos.networking.v1alpha1.nat_gateway_pb2 import NATGateway
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.network_pb2 import Network
from services.apimachinery.client.objects import Key, is_deleting, metadata_of
from services.apimachinery.runtime.finalizers import ensure_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.common.logs import get_logger
from services.core.model import names

log = get_logger(__name__)


def _referenced(obj: Any) -> list[str]:
    return [obj.spec.network_ref.name]


def _peers(network: Network) -> list[str]:
    own = network.metadata.namespace
    return [peer.name for peer in network.spec.incoming_peerings if peer.namespace in ("", own)]


USERS: Final[dict[type[Message], Callable[[Any], list[str]]]] = {
    NetworkInterface: _referenced,
    LoadBalancer: _referenced,
    NATGateway: _referenced,
    Network: _peers,
}
"""Kinds that protect a network, with the names of the networks that an object of theirs uses."""


class NetworkProtection(Reconciler):
    """Holds networks by a finalizer. Users that are being deleted themselves don't count."""

    def __init__(self, manager: Manager) -> None:
        super().__init__("network-protection")
        self._client = manager.client
        self._networks = manager.informer(Network)
        self.watch(self._networks)
        for kind, networks_of in USERS.items():
            self.watch(manager.informer(kind), _keys(networks_of))

    async def reconcile(self, key: Key) -> float | None:
        """Puts the finalizer, or takes it off when nothing uses the network. Users' events wake it while it waits."""
        network = self._networks.get(key.name, key.namespace)
        if network is None:
            return None
        if not is_deleting(network):
            await ensure_finalizer(self._client, network, names.NETWORK_FINALIZER)
        elif not await self._is_used(key):
            await remove_finalizer(self._client, network, names.NETWORK_FINALIZER)
            log.info("network released", name=str(key))
        return None

    async def _is_used(self, key: Key) -> bool:
        for kind, networks_of in USERS.items():
            page = await self._client.list(kind, key.namespace)
            if any(not is_deleting(user) and key.name in networks_of(user) for user in page.items):
                return True
        return False


def _keys(networks_of: Callable[[Any], list[str]]) -> Callable[[Message], list[Key]]:
    return lambda user: [Key(metadata_of(user).namespace, name) for name in networks_of(user)]
