"""What a runtime offers: its classes and how much of each, and whether it answers at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from protos.iri.machine.v1alpha1 import machine_pb2 as machine
from protos.iri.volume.v1alpha1 import volume_pb2 as volume
from services.common.logs import get_logger
from services.common.tasks import Backoff

log = get_logger(__name__)

PROBE_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Offer:
    """Classes by name: capabilities, and the total quantity (machines, or bytes)."""

    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    quantities: Mapping[str, int] = field(default_factory=dict)


class Offers:
    """The last offer; `problem` is empty while the runtime answers."""

    def __init__(self, ask: Callable[[], Awaitable[Offer]], interval: float) -> None:
        self._ask, self._interval = ask, interval
        self._callbacks: list[Callable[[], None]] = []
        self._offer = Offer()
        self.problem = "the runtime has not been asked yet"

    @property
    def classes(self) -> Mapping[str, Mapping[str, int]]:
        """Capabilities of each class."""
        return self._offer.classes

    @property
    def quantities(self) -> Mapping[str, int]:
        """Total quantity of each class."""
        return self._offer.quantities

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls back when offer or reachability differ from before."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Asks again every interval, and sooner while the runtime has a problem; until cancelled."""
        retries = Backoff(first=0.5, limit=self._interval)
        while True:
            if not self.problem:
                retries.reset()
            await asyncio.sleep(retries.next() if self.problem else self._interval)
            await self.refresh()

    async def refresh(self) -> None:
        """Asks now. Once before the pool is looked at: an offer that is not known yet is not an empty one."""
        before = (self._offer, self.problem)
        try:
            self._offer, self.problem = await self._ask(), ""
        except grpc.aio.AioRpcError as error:
            self.problem = f"{error.code().name}: {error.details()}"
        if (self._offer, self.problem) != before:
            log.info("runtime's offer changed", classes=sorted(self.classes), problem=self.problem)
            for callback in self._callbacks:
                callback()


def machine_offers(runtime: Any, interval: float) -> Offers:
    """Offers of a MachineRuntime."""

    async def ask() -> Offer:
        answer = await runtime.Status(machine.StatusRequest(), timeout=PROBE_SECONDS)
        statuses = answer.machine_class_status
        return Offer(
            {item.machine_class.name: dict(item.machine_class.capabilities.resources) for item in statuses},
            {item.machine_class.name: item.quantity for item in statuses},
        )

    return Offers(ask, interval)


def volume_offers(runtime: Any, interval: float) -> Offers:
    """Offers of a VolumeRuntime."""

    async def ask() -> Offer:
        answer = await runtime.Status(volume.StatusRequest(), timeout=PROBE_SECONDS)
        statuses = answer.volume_class_status
        return Offer(
            {
                item.volume_class.name: {
                    "tps": item.volume_class.capabilities.tps,
                    "iops": item.volume_class.capabilities.iops,
                }
                for item in statuses
            },
            {item.volume_class.name: item.quantity for item in statuses},
        )

    return Offers(ask, interval)
