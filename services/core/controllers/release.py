"""Controllers `volumerelease`, `networkinterfacerelease` and `virtualiprelease`: claims end with their claimers.

The cache may say that a claimer lives; that it is gone must be seen on the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message

from protos.common.v1alpha1.common_pb2 import LocalUIDReference
from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.networking.v1alpha1.network_interface_pb2 import NetworkInterface
from protos.networking.v1alpha1.virtual_ip_pb2 import VirtualIP
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.client.objects import Key, is_deleting, key_of, metadata_of
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.common.logs import get_logger
from services.core.model.claims import is_stale

log = get_logger(__name__)

T = TypeVar("T", bound=Message)
H = TypeVar("H", bound=Message)

_CLAIMED: Final = "claimed"


class ClaimRelease(Reconciler, Generic[T, H]):
    """Clears the claim on objects of one kind when its holder is gone; `cleared` is the patch of the spec."""

    def __init__(
        self,
        manager: Manager,
        name: str,
        *,
        claimed: type[T],
        holder: type[H],
        claim: Callable[[T], LocalUIDReference],
        cleared: Mapping[str, Any],
    ) -> None:
        super().__init__(name)
        self._client = manager.client
        self._holder, self._claim, self._cleared = holder, claim, cleared
        self._objects = manager.informer(claimed)
        self._holders = manager.informer(holder)
        self._index = f"{name}/{_CLAIMED}"
        self._objects.index(self._index, lambda obj: [claim(obj).uid] if claim(obj).uid else [])
        self.watch(self._objects)
        self.watch(self._holders, self._held)

    async def reconcile(self, key: Key) -> float | None:
        """Looks for the claimer, in the cache and, before the claim is cleared, on the server."""
        obj = self._objects.get(key.name, key.namespace)
        if obj is None or is_deleting(obj) or not self._claim(obj).name:
            return None
        if await self._is_held(key.namespace, self._claim(obj)):
            return None
        metadata = metadata_of(obj)
        patch = {
            "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
            "spec": dict(self._cleared),
        }
        try:
            await self._client.patch(type(obj), key.name, patch, key.namespace)
        except NotFound:
            return None
        log.info("claim released", claimer=self._claim(obj).name)
        return None

    async def _is_held(self, namespace: str, claim: LocalUIDReference) -> bool:
        cached = self._holders.get(claim.name, namespace)
        if cached is not None and not is_stale(claim, metadata_of(cached).uid):
            return True
        try:
            live = await self._client.get(self._holder, claim.name, namespace)
        except NotFound:
            return False
        return not is_stale(claim, metadata_of(live).uid)

    def _held(self, holder: H) -> list[Key]:
        return [key_of(obj) for obj in self._objects.by_index(self._index, metadata_of(holder).uid)]


def volume_release(manager: Manager) -> ClaimRelease[Volume, Machine]:
    """A volume is free again when its machine is gone."""
    return ClaimRelease(
        manager,
        "volume-release",
        claimed=Volume,
        holder=Machine,
        claim=lambda volume: volume.spec.claim_ref,
        cleared={"claimRef": None},
    )


def interface_release(manager: Manager) -> ClaimRelease[NetworkInterface, Machine]:
    """An interface is free again when its machine is gone; its device belonged to that machine too."""
    return ClaimRelease(
        manager,
        "network-interface-release",
        claimed=NetworkInterface,
        holder=Machine,
        claim=lambda interface: interface.spec.machine_ref,
        cleared={"machineRef": None, "providerID": None},
    )


def virtual_ip_release(manager: Manager) -> ClaimRelease[VirtualIP, NetworkInterface]:
    """A public address is free again when its interface is gone."""
    return ClaimRelease(
        manager,
        "virtual-ip-release",
        claimed=VirtualIP,
        holder=NetworkInterface,
        claim=lambda address: address.spec.target_ref,
        cleared={"targetRef": None},
    )
