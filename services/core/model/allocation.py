"""Parts of prefixes: who fits whom, and which request gets what. Pure; times in Unix seconds.

A child Prefix asks by a PrefixAllocation (`request_of`, `matching`, `active`); the parent answers all requests at once
(`answers`), the oldest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from protos.ipam.v1alpha1.prefix_allocation_pb2 import PrefixAllocation, PrefixAllocationSpec
from protos.ipam.v1alpha1.prefix_pb2 import Prefix
from services.apimachinery.errors import BadRequest
from services.apimachinery.selectors import labels_of
from services.core.model.addresses import IPNetwork, family_of, network_of
from services.core.model.free_set import FreeSet, NotFree

PENDING: Final = "Pending"
ALLOCATED: Final = "Allocated"
FAILED: Final = "Failed"

_PREFERENCE: Final = {ALLOCATED: 2, PENDING: 1, "": 0, FAILED: -1}


@dataclass(frozen=True)
class Answer:
    """What a request gets: `prefix` when ALLOCATED; `why` tells people of FAILED (never) and PENDING (no room)."""

    allocation: PrefixAllocation
    phase: str
    prefix: IPNetwork | None = None
    why: str = ""


@dataclass(frozen=True)
class Answers:
    """All answers that differ from what the requests already have, and the parent's used ranges with them.

    `misfits` are allocations that stand outside of the parent or overlap an older one: they can only come from a parent
    that was made anew with another range.
    """

    used: list[str]
    changed: list[Answer]
    misfits: list[PrefixAllocation]


def is_root(prefix: Prefix) -> bool:
    """Whether a prefix stands for itself."""
    return not prefix.spec.HasField("parent_ref") and not prefix.spec.HasField("parent_selector")


def has_parts(prefix: Prefix) -> bool:
    """Whether a prefix can have children: a single address can't."""
    own = network_of(prefix.spec.prefix)
    return own is not None and own.prefixlen < own.max_prefixlen


def incompatibility(parent: Prefix, request: PrefixAllocation) -> str:
    """Why the parent can never serve the request; empty when it might."""
    own, spec = network_of(parent.spec.prefix), request.spec
    if own is None:
        return f"prefix {parent.metadata.name} has no range"
    if spec.ip_family != family_of(own):
        return f"{own} is not of family {spec.ip_family}"
    asked = network_of(spec.prefix)
    if asked is not None and asked == own:
        return f"{asked} is the whole of prefix {parent.metadata.name}: a part must be smaller"
    if asked is None and spec.prefix_length <= own.prefixlen:
        return f"length {spec.prefix_length} does not fit into {own}: a part must be smaller"
    return ""


def has_room(parent: Prefix, request: PrefixAllocation) -> bool:
    """Whether an allocated parent could serve the request now, by its status."""
    own = network_of(parent.spec.prefix)
    if own is None or parent.status.phase != ALLOCATED or incompatibility(parent, request):
        return False
    try:
        free = FreeSet(own, _networks(parent.status.used))
    except NotFree:
        return False
    asked = network_of(request.spec.prefix)
    return asked in free if asked is not None else free.has_room(request.spec.prefix_length)


def may_serve(parent: Prefix, request: PrefixAllocation) -> bool:
    """Whether the scheduler may choose this parent for a request that has only a selector."""
    if parent.metadata.HasField("deletion_timestamp") or parent.metadata.namespace != request.metadata.namespace:
        return False
    try:
        selected = labels_of(request.spec.prefix_selector).matches(parent.metadata.labels)
    except BadRequest:
        return False
    return selected and has_room(parent, request)


def answers(parent: Prefix, requests: Iterable[PrefixAllocation]) -> Answers:
    """Answers the requests that name an allocated parent; ValueError for a parent without range."""
    own = network_of(parent.spec.prefix)
    if own is None:
        raise ValueError(f"prefix {parent.metadata.name} has no range")
    free, used = FreeSet(own), list[IPNetwork]()
    waiting: list[PrefixAllocation] = []
    misfits: list[PrefixAllocation] = []
    for request in sorted(requests, key=_age):
        given = network_of(request.status.prefix) if request.status.phase == ALLOCATED else None
        if given is not None:
            try:
                free.remove(given)
                used.append(given)
            except NotFree:
                misfits.append(request)
        elif request.status.phase != FAILED and not _is_deleting(request):
            waiting.append(request)
    changed = []
    for request in waiting:
        answer = _answer(parent, request, free)
        if answer.prefix is not None:
            used.append(answer.prefix)
        # Without room it stays Pending; the time of the first look is written down, and nothing more.
        if answer.phase != PENDING or not request.status.HasField("last_phase_transition_time"):
            changed.append(answer)
    return Answers(sorted(str(network) for network in used), changed, misfits)


def _answer(parent: Prefix, request: PrefixAllocation, free: FreeSet) -> Answer:
    why = incompatibility(parent, request)
    if why:
        return Answer(request, FAILED, why=why)
    asked: IPNetwork | None = network_of(request.spec.prefix)
    if asked is None:
        given = free.take(request.spec.prefix_length)
        if given is None:
            why = f"prefix {parent.metadata.name} has no free range of length {request.spec.prefix_length}"
            return Answer(request, PENDING, why=why)
        return Answer(request, ALLOCATED, given)
    try:
        free.remove(asked)
    except NotFree:
        return Answer(request, PENDING, why=f"{asked} is not free in prefix {parent.metadata.name}")
    return Answer(request, ALLOCATED, asked)


def request_of(child: Prefix) -> PrefixAllocationSpec:
    """What a child prefix asks for."""
    spec = PrefixAllocationSpec(ip_family=child.spec.ip_family)
    if child.spec.prefix:
        spec.prefix = child.spec.prefix
    else:
        spec.prefix_length = child.spec.prefix_length
    if child.spec.HasField("parent_ref"):
        spec.prefix_ref.CopyFrom(child.spec.parent_ref)
    if child.spec.HasField("parent_selector"):
        spec.prefix_selector.CopyFrom(child.spec.parent_selector)
    return spec


def matching(child: Prefix, request: PrefixAllocation) -> bool:
    """Whether a request (with its answer) is still what the child wants."""
    wanted, spec = child.spec, request.spec
    if spec.ip_family != wanted.ip_family or spec.prefix_selector != wanted.parent_selector:
        return False
    if wanted.parent_ref.name and spec.prefix_ref.name != wanted.parent_ref.name:
        return False
    given = network_of(request.status.prefix) if request.status.phase == ALLOCATED else network_of(spec.prefix)
    own = network_of(wanted.prefix)
    if own is not None:
        return given == own
    length = given.prefixlen if given is not None else spec.prefix_length
    return length == wanted.prefix_length


def active(child: Prefix, requests: Sequence[PrefixAllocation]) -> PrefixAllocation | None:
    """The request to go on with: of those that match, the one that got furthest, then the oldest."""
    candidates = [request for request in requests if matching(child, request) and not _is_deleting(request)]
    return min(candidates, key=lambda one: (-_PREFERENCE[one.status.phase], _age(one)), default=None)


def is_failed(request: PrefixAllocation, now: float, timeout: float) -> bool:
    """Whether a request came to nothing: refused for ever, or by a chosen parent without room for `timeout` seconds.

    One that the user tied to a parent waits there; one that nobody looked at yet is not late.
    """
    if request.status.phase == FAILED:
        return True
    chosen = request.spec.prefix_ref.name and request.spec.HasField("prefix_selector")
    looked_at = request.status.HasField("last_phase_transition_time")
    if request.status.phase == ALLOCATED or not chosen or not looked_at:
        return False
    # The time is stored in whole seconds: up to one more has not passed yet.
    return now - request.status.last_phase_transition_time.seconds >= timeout + 1


def _age(request: PrefixAllocation) -> tuple[int, str]:
    # Creation times have whole seconds; the uid makes the order total, and the same for everybody.
    return request.metadata.creation_timestamp.seconds, request.metadata.uid


def _is_deleting(request: PrefixAllocation) -> bool:
    return request.metadata.HasField("deletion_timestamp")


def _networks(texts: Iterable[str]) -> Iterable[IPNetwork]:
    return (network for text in texts if (network := network_of(text)) is not None)
