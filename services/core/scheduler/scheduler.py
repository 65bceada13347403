"""Binds each object without pool to the fitting pool with the most room, and says why where none fits.

Choosing and booking happen without an await between them, so that several workers never give away the same room. The
ledger is rebuilt from the cache at every start; what this process booked and is not confirmed is looked up live.
"""

from __future__ import annotations

from typing import Final, Generic

from prometheus_client import Counter, Gauge

from services.apimachinery.client.objects import Key, key_of, metadata_of
from services.apimachinery.errors import ApiError, NotFound
from services.apimachinery.kinds import kind_of
from services.apimachinery.runtime.conditions import FALSE, TRUE, find_condition, set_condition
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.reconciler import Reconciler
from services.apimachinery.runtime.recorder import NORMAL
from services.common.logs import get_logger
from services.core.model.ledger import Booking, Ledger
from services.core.model.placement import Demand, Offer, Refusal, choose
from services.core.scheduler.subjects import O, P, Subject

log = get_logger(__name__)

SCHEDULED: Final = "Scheduled"
"""Type of the condition that says why an object has no pool. It is not written for one that found a pool at once."""
OUT_OF_CAPACITY: Final = "OutOfCapacity"
"""Reason of the event that says the same."""
WORKERS: Final = 8

PENDING = Gauge("ferrite_scheduler_pending", "Objects without a pool.", ["resource"])
BOUND = Counter("ferrite_scheduler_bound", "Objects bound to a pool.", ["resource"])


class Scheduler(Reconciler, Generic[O, P]):
    """The scheduler of one kind; woken by its objects, and for all that wait by each change of what pools offer."""

    def __init__(self, manager: Manager, subject: Subject[O, P]) -> None:
        super().__init__(subject.scheduler, workers=WORKERS)
        self._subject = subject
        self._resource = kind_of(subject.kind).resource
        self._client = manager.client
        self._events = manager.recorder(subject.scheduler)
        self._ledger = Ledger()
        self._offers: dict[str, Offer] = {}
        self._pending: dict[Key, None] = {}
        self._objects = manager.informer(subject.kind)
        self._pools = manager.informer(subject.pool)
        self._objects.on_change(self._account)
        self._pools.on_change(self._offered)
        self.watch(self._objects)

    async def run(self, workers: int | None = None) -> None:
        """Works until cancelled; starts when objects and pools are known."""
        await self._pools.synced()
        await super().run(workers)

    async def reconcile(self, key: Key) -> float | None:
        """Binds the object, or writes down why it waits."""
        obj = self._objects.get(key.name, key.namespace)
        if obj is None:
            return None
        try:
            await self._place(obj)
        except NotFound:
            self._ledger.cancel(metadata_of(obj).uid)
        return None

    async def _place(self, obj: O) -> None:
        unbound = await self._unbooked(obj)
        demand = self._subject.demand(unbound) if unbound is not None else None
        if unbound is None or demand is None:
            await self._report_bound(obj)
            return
        choice = choose(demand, self._offers.values(), self._ledger)
        if isinstance(choice, Refusal):
            await self._report_refused(unbound, choice)
        else:
            await self._report_bound(await self._bind(unbound, choice, demand))

    async def _unbooked(self, obj: O) -> O | None:
        """The object when this process has not tried to bind it; else its live state, None when that is bound."""
        uid = metadata_of(obj).uid
        if self._subject.demand(obj) is None or self._ledger.get(uid) is None:
            return obj
        key = key_of(obj)
        live = await self._client.get(self._subject.kind, key.name, key.namespace)
        if metadata_of(live).uid != uid:
            raise NotFound(f"{self._resource} {key} was made anew")
        booking = self._subject.booking(live)
        if booking is not None:
            self._ledger.book(uid, booking)
            return None
        self._ledger.cancel(uid)
        return live

    async def _bind(self, obj: O, pool: str, demand: Demand) -> O:
        metadata = metadata_of(obj)
        self._ledger.book(metadata.uid, Booking(pool, demand.class_name, demand.amount))
        patch = {
            "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
            "spec": {self._subject.field: {"name": pool}},
        }
        try:
            bound = await self._client.patch(self._subject.kind, metadata.name, patch, metadata.namespace)
        except ApiError as error:
            # After a lost answer the binding may stand: it stays booked until the next attempt has looked.
            if error.code < 500:
                self._ledger.cancel(metadata.uid)
            raise
        BOUND.labels(self._resource).inc()
        log.info("bound", resource=self._resource, pool=pool)
        self._events.event(bound, NORMAL, "Scheduled", f"bound to pool {pool}", action="Schedule")
        return bound

    async def _report_refused(self, obj: O, refusal: Refusal) -> None:
        conditions, generation = self._subject.conditions(obj), metadata_of(obj).generation
        if set_condition(conditions, SCHEDULED, FALSE, refusal.reason, refusal.message, observed_generation=generation):
            await self._client.update_status(obj)
            self._events.event(obj, NORMAL, OUT_OF_CAPACITY, refusal.message, action="Schedule")

    async def _report_bound(self, obj: O) -> None:
        """Corrects the condition of an object that had to wait; the poollet's status is left alone otherwise."""
        conditions, booking = self._subject.conditions(obj), self._subject.booking(obj)
        present = find_condition(conditions, SCHEDULED)
        if present is None or present.status == TRUE or booking is None:
            return
        generation = metadata_of(obj).generation
        message = f"bound to pool {booking.pool}"
        set_condition(conditions, SCHEDULED, TRUE, "Bound", message, observed_generation=generation)
        await self._client.update_status(obj)

    def _account(self, old: O | None, new: O | None) -> None:
        obj = new if new is not None else old
        assert obj is not None
        key, uid = key_of(obj), metadata_of(obj).uid
        booking = None if new is None else self._subject.booking(new)
        if booking is not None:
            self._ledger.book(uid, booking)
        if new is not None and self._subject.demand(new) is not None:
            self._pending[key] = None
        else:
            self._pending.pop(key, None)
        if new is None and self._ledger.get(uid) is not None:
            self._ledger.cancel(uid)
            self._wake_pending()
        PENDING.labels(self._resource).set(len(self._pending))

    def _offered(self, old: P | None, new: P | None) -> None:
        """Heartbeats change pools all the time; only another offer wakes those that wait."""
        offer = self._subject.offer(new) if new is not None else None
        name = metadata_of(new if new is not None else old).name  # type: ignore[arg-type]
        if offer == self._offers.get(name):
            return
        if offer is None:
            del self._offers[name]
        else:
            self._offers[name] = offer
        self._wake_pending()

    def _wake_pending(self) -> None:
        for key in self._pending:
            self.queue.add(key)
