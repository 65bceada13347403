"""Controller `prefix`: asks the parent for a child's range, and as a parent answers who asks; `model/allocation.py`.

A parent writes what it gives away into its own status first, under the version that it read, and only then into the
requests. Of two controllers that both think they lead, one meets a Conflict there, or at the index keys of the
allocation (`model/address_index.py`) if they interleave.
"""

from __future__ import annotations

import time
from typing import Final

from protos.ipam.v1alpha1.prefix_allocation_pb2 import PrefixAllocation
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.client.objects import Key, is_deleting, key_of
from services.apimachinery.errors import Conflict, NotFound
from services.apimachinery.runtime.finalizers import ensure_finalizer, remove_finalizer
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.owners import controller_of, is_controlled_by, set_controller_reference
from services.apimachinery.runtime.reconciler import Reconciler
from services.apimachinery.runtime.recorder import NORMAL, WARNING
from services.apimachinery.runtime.schedule import RetryPolicy
from services.common.logs import get_logger
from services.core.model import allocation as rules
from services.core.model import names

log = get_logger(__name__)

WORKERS: Final = 8
RETRIES: Final = RetryPolicy(first=0.02, limit=5.0)
"""After a failure; conflicts of a busy parent pass quickly."""
NEW_REQUESTS: Final = RetryPolicy(first=0.005, limit=1000.0)
"""Between attempts to get a range after a request came to nothing."""

_PARENT: Final = "prefix/parent"
_ASKED: Final = "prefix/asked"
_ASKING: Final = "prefix/asking"


class Prefixes(Reconciler):
    """`timeout` (seconds): how long a parent chosen by labels may have no room before another is looked for."""

    def __init__(self, manager: Manager, timeout: float) -> None:
        super().__init__("prefix", workers=WORKERS, retries=RETRIES)
        self._client = manager.client
        self._events = manager.recorder("prefix")
        self._timeout = timeout
        self._failures: dict[str, int] = {}
        self._prefixes = manager.informer(Prefix)
        self._requests = manager.informer(PrefixAllocation)
        self._prefixes.index(_PARENT, lambda child: [f"{child.metadata.namespace}/{child.spec.parent_ref.name}"])
        self._requests.index(_ASKED, lambda one: [f"{one.metadata.namespace}/{one.spec.prefix_ref.name}"])
        self._requests.index(_ASKING, lambda one: [one.metadata.labels.get(names.REQUESTER_LABEL, "")])
        self.watch(self._prefixes, self._on_prefix)
        self.watch(self._requests, self._on_request)

    async def reconcile(self, key: Key) -> float | None:
        """One step towards an allocated prefix, or its answers as a parent, or its end."""
        prefix = self._prefixes.get(key.name, key.namespace)
        if prefix is None:
            return None
        try:
            if is_deleting(prefix):
                await self._release(prefix)
                return None
            prefix = await ensure_finalizer(self._client, prefix, names.PREFIX_FINALIZER)
            if prefix.status.phase == rules.ALLOCATED:
                await self._answer(prefix)
                return None
            if rules.is_root(prefix):
                await self._set_allocated(prefix)
                return None
            return await self._ask(prefix)
        except NotFound:
            return None

    async def _release(self, prefix: Prefix) -> None:
        """A prefix goes when nobody has a part of it; its children's events wake it while it waits."""
        self._failures.pop(prefix.metadata.uid, None)
        if rules.has_parts(prefix) and any(
            request.status.phase == rules.ALLOCATED for request in await self._asking(prefix)
        ):
            return
        await remove_finalizer(self._client, prefix, names.PREFIX_FINALIZER)

    async def _ask(self, child: Prefix) -> float | None:
        requests = await self._own_requests(child)
        chosen = rules.active(child, requests)
        for request in requests:
            if chosen is None or request.metadata.uid != chosen.metadata.uid:
                await self._withdraw(request)
        if chosen is None:
            await self._request(child)
        elif chosen.status.phase == rules.ALLOCATED:
            self._failures.pop(child.metadata.uid, None)
            await self._set_allocated(await self._take(child, chosen))
        elif rules.is_failed(chosen, time.time(), self._timeout):
            return await self._ask_again(child, chosen)
        elif chosen.spec.prefix_ref.name and chosen.spec.HasField("prefix_selector"):
            return self._timeout + 1  # by then the chosen parent has answered, or counts as full
        return None

    async def _request(self, child: Prefix) -> None:
        metadata = ObjectMeta(namespace=child.metadata.namespace, generate_name=f"{child.metadata.name}-")
        metadata.labels[names.REQUESTER_LABEL] = child.metadata.uid
        request = PrefixAllocation(metadata=metadata, spec=rules.request_of(child))
        set_controller_reference(child, request)
        await self._client.create(request)

    async def _ask_again(self, child: Prefix, failed: PrefixAllocation) -> float | None:
        """After a while, and of a named parent only when it could serve now; its events wake the child."""
        if child.spec.parent_ref.name:
            parent = self._prefixes.get(child.spec.parent_ref.name, child.metadata.namespace)
            if parent is None or not rules.has_room(parent, failed):
                return None
        uid = child.metadata.uid
        since = time.time() - failed.status.last_phase_transition_time.seconds
        left = NEW_REQUESTS.delay(self._failures.get(uid, 0) + 1) - since
        if left > 0:
            return left
        self._failures[uid] = self._failures.get(uid, 0) + 1
        if await self._withdraw(failed):
            await self._request(child)
        return None

    async def _withdraw(self, request: PrefixAllocation) -> bool:
        """Whether it was there: the cache may show one that this process has withdrawn already."""
        metadata = request.metadata
        try:
            await self._client.delete(PrefixAllocation, metadata.name, metadata.namespace, uid=metadata.uid)
        except (NotFound, Conflict):
            return False
        return True

    async def _take(self, child: Prefix, request: PrefixAllocation) -> Prefix:
        """Writes range and parent into the child, where they are not yet."""
        spec: dict[str, object] = {}
        if not child.spec.prefix:
            spec["prefix"] = request.status.prefix
        if not child.spec.parent_ref.name:
            spec["parentRef"] = {"name": request.spec.prefix_ref.name}
        if not spec:
            return child
        patch = {
            "metadata": {"uid": child.metadata.uid, "resourceVersion": child.metadata.resource_version},
            "spec": spec,
        }
        return await self._client.patch(Prefix, child.metadata.name, patch, child.metadata.namespace)

    async def _set_allocated(self, prefix: Prefix) -> None:
        prefix.status.phase = rules.ALLOCATED
        prefix.status.last_phase_transition_time.seconds = int(time.time())
        await self._client.update_status(prefix)
        log.info("prefix allocated", prefix=prefix.spec.prefix)

    async def _answer(self, cached: Prefix) -> None:
        key = key_of(cached)
        if self._is_answered(cached):
            return
        # Our own answers may not be in the cache yet: what is given away must be read from the server.
        parent = await self._client.get(Prefix, key.name, key.namespace)
        if is_deleting(parent) or parent.status.phase != rules.ALLOCATED:
            return
        answers = rules.answers(parent, await self._asking(parent))
        for misfit in answers.misfits:
            note = f"{misfit.status.prefix} does not fit into prefix {key.name}, which was made anew or overlaps it"
            self._events.event(misfit, WARNING, "Misfit", note, action="Allocate")
        if list(parent.status.used) != answers.used:
            del parent.status.used[:]
            parent.status.used.extend(answers.used)
            await self._client.update_status(parent)
        conflict: Conflict | None = None
        for answer in answers.changed:
            try:
                await self._reply(answer)
            except Conflict as error:
                conflict = error  # one request that changed meanwhile holds up no other
        if conflict is not None:
            raise conflict

    def _is_answered(self, parent: Prefix) -> bool:
        """Whether, as far as the cache knows, nothing is left to do; events wake the parent when it learns more."""
        answers = rules.answers(parent, self._requests.by_index(_ASKED, str(key_of(parent))))
        return not answers.changed and answers.used == list(parent.status.used)

    async def _reply(self, answer: rules.Answer) -> None:
        request = answer.allocation
        request.status.phase = answer.phase
        request.status.last_phase_transition_time.seconds = int(time.time())
        if answer.prefix is not None:
            request.status.prefix = str(answer.prefix)
        try:
            await self._client.update_status(request)
        except NotFound:
            return
        if answer.phase == rules.FAILED:
            self._events.event(request, WARNING, "Incompatible", answer.why, action="Allocate")
        elif answer.phase == rules.PENDING:
            self._events.event(request, NORMAL, "NoRoom", answer.why, action="Allocate")

    async def _asking(self, parent: Prefix) -> list[PrefixAllocation]:
        """The requests that name this prefix, read from the server: the cache lags behind our own answers."""
        page = await self._client.list(PrefixAllocation, parent.metadata.namespace)
        return [request for request in page.items if request.spec.prefix_ref.name == parent.metadata.name]

    async def _own_requests(self, child: Prefix) -> list[PrefixAllocation]:
        uid = child.metadata.uid
        requests = self._requests.by_index(_ASKING, uid)
        if not requests:  # or the cache does not show it yet
            labels = f"{names.REQUESTER_LABEL}={uid}"
            requests = (await self._client.list(PrefixAllocation, child.metadata.namespace, labels=labels)).items
        return [request for request in requests if is_controlled_by(request, child)]

    def _on_prefix(self, prefix: Prefix) -> list[Key]:
        """Itself, and the children that wait for it to have room."""
        own = Key(prefix.metadata.namespace, prefix.metadata.name)
        if prefix.status.phase != rules.ALLOCATED:
            return [own]
        waiting = self._prefixes.by_index(_PARENT, str(own))
        return [
            own,
            *[Key(own.namespace, child.metadata.name) for child in waiting if child.status.phase != rules.ALLOCATED],
        ]

    def _on_request(self, request: PrefixAllocation) -> list[Key]:
        namespace, controller = request.metadata.namespace, controller_of(request)
        keys = [Key(namespace, request.spec.prefix_ref.name)] if request.spec.prefix_ref.name else []
        return keys if controller is None else [*keys, Key(namespace, controller.name)]
