"""Controller `prefixallocationscheduler`: chooses the prefix that a request with only a selector is put to."""

from __future__ import annotations

import random
from typing import Final

from protos.ipam.v1alpha1.prefix_allocation_pb2 import PrefixAllocation
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from services.apimachinery.client.objects import Key, is_deleting
from services.apimachinery.errors import NotFound
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.apimachinery.runtime.recorder import NORMAL
from services.common.logs import get_logger
from services.core.model import allocation as rules

log = get_logger(__name__)

_WAITING: Final = "prefix-allocation-scheduler/waiting"
_BY_NAMESPACE: Final = "prefix-allocation-scheduler/namespace"


class PrefixAllocationScheduler(Reconciler):
    """Takes any prefix that has room, at random; prefixes' events wake the requests that found none."""

    def __init__(self, manager: Manager) -> None:
        super().__init__("prefix-allocation-scheduler")
        self._client = manager.client
        self._events = manager.recorder("prefix-allocation-scheduler")
        self._requests = manager.informer(PrefixAllocation)
        self._prefixes = manager.informer(Prefix)
        self._requests.index(_WAITING, lambda request: [request.metadata.namespace] if _is_waiting(request) else [])
        self._prefixes.index(_BY_NAMESPACE, lambda prefix: [prefix.metadata.namespace])
        self.watch(self._requests)
        self.watch(self._prefixes, self._on_prefix)

    async def reconcile(self, key: Key) -> float | None:
        """Writes spec.prefixRef, or says that there is no prefix."""
        request = self._requests.get(key.name, key.namespace)
        if request is None or not _is_waiting(request):
            return None
        candidates = self._prefixes.by_index(_BY_NAMESPACE, key.namespace)
        fitting = [prefix.metadata.name for prefix in candidates if rules.may_serve(prefix, request)]
        if not fitting:
            note = "no allocated prefix matches the selector, is larger than the request and has room for it"
            self._events.event(request, NORMAL, "NoSuitablePrefix", note, action="Schedule")
            return None
        chosen = random.choice(fitting)
        patch = {
            "metadata": {"uid": request.metadata.uid, "resourceVersion": request.metadata.resource_version},
            "spec": {"prefixRef": {"name": chosen}},
        }
        try:
            await self._client.patch(PrefixAllocation, key.name, patch, key.namespace)
        except NotFound:
            return None
        log.info("prefix chosen", prefix=chosen)
        return None

    def _on_prefix(self, prefix: Prefix) -> list[Key]:
        if prefix.status.phase != rules.ALLOCATED or is_deleting(prefix):
            return []
        waiting = self._requests.by_index(_WAITING, prefix.metadata.namespace)
        return [Key(request.metadata.namespace, request.metadata.name) for request in waiting]


def _is_waiting(request: PrefixAllocation) -> bool:
    return (
        request.status.phase not in (rules.ALLOCATED, rules.FAILED)
        and not request.spec.prefix_ref.name
        and request.spec.HasField("prefix_selector")
        and not is_deleting(request)
    )
