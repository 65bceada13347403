"""Which pool takes an object: filters in order, then the one with the most room. Pure.

An offer's `capacity` is what the empty pool holds of the class; bookings are subtracted here and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from protos.common.v1alpha1.common_pb2 import Taint, Toleration
from services.core.model.ledger import Ledger
from services.core.model.tolerations import untolerated


@dataclass(frozen=True)
class Demand:
    """What an object needs: `amount` machines or bytes of a class, on a pool with these labels."""

    class_name: str
    amount: int
    selector: Mapping[str, str]
    tolerations: Sequence[Toleration]


@dataclass(frozen=True)
class Offer:
    """A pool as the scheduler sees it; equal offers take the same objects. `capacity` is by class name."""

    pool: str
    ready: bool
    labels: Mapping[str, str]
    taints: Sequence[Taint]
    capacity: Mapping[str, int]


class Obstacle(Enum):
    """Why a pool does not take an object, in the order of the filters; the value is the condition's reason.

    A pool that was never meant (other labels, other classes) fails first, so that the last obstacle that occurs is the
    one to remove.
    """

    LABELS = "SelectorMismatch"
    NOT_OFFERED = "ClassNotOffered"
    NOT_READY = "NoPoolReady"
    TAINTED = "TaintsNotTolerated"
    FULL = "InsufficientCapacity"


@dataclass(frozen=True)
class Refusal:
    """No pool fits: `reason` is that of the pool that came nearest, `message` counts the pools by obstacle."""

    reason: str
    message: str


_WORDS: Final = {
    Obstacle.LABELS: "without the selected labels",
    Obstacle.NOT_OFFERED: "not offering class {name}",
    Obstacle.NOT_READY: "not ready",
    Obstacle.TAINTED: "with taints that are not tolerated",
    Obstacle.FULL: "without room for class {name}",
}
_REMEDIES: Final = {
    Obstacle.LABELS: "label a pool or change the selector",
    Obstacle.NOT_OFFERED: "it is scheduled once a pool offers the class",
    Obstacle.NOT_READY: "it is scheduled once a pool is ready",
    Obstacle.TAINTED: "add a toleration or remove the taint",
    Obstacle.FULL: "it is scheduled once a pool has room",
}


def choose(demand: Demand, offers: Iterable[Offer], ledger: Ledger) -> str | Refusal:
    """The name of the fitting pool with the most room left (the first by name among equals), or why there is none."""
    best: tuple[int, str] | None = None
    obstacles: Counter[Obstacle] = Counter()
    for offer in offers:
        obstacle = obstacle_of(demand, offer, ledger)
        if obstacle is not None:
            obstacles[obstacle] += 1
            continue
        rank = (-remaining(demand, offer, ledger), offer.pool)
        best = rank if best is None else min(best, rank)
    return best[1] if best is not None else _refusal(demand, obstacles)


def obstacle_of(demand: Demand, offer: Offer, ledger: Ledger) -> Obstacle | None:
    """The first filter that an offer fails, or None when the pool takes the object."""
    if not demand.selector.items() <= offer.labels.items():
        return Obstacle.LABELS
    if demand.class_name not in offer.capacity:
        return Obstacle.NOT_OFFERED
    if not offer.ready:
        return Obstacle.NOT_READY
    if untolerated(offer.taints, demand.tolerations):
        return Obstacle.TAINTED
    if remaining(demand, offer, ledger) < demand.amount:
        return Obstacle.FULL
    return None


def remaining(demand: Demand, offer: Offer, ledger: Ledger) -> int:
    """What is left of the class on the pool; negative when more is bound than the pool offers."""
    return offer.capacity.get(demand.class_name, 0) - ledger.booked(offer.pool, demand.class_name)


def _refusal(demand: Demand, obstacles: Counter[Obstacle]) -> Refusal:
    if not obstacles:
        return Refusal(Obstacle.NOT_READY.value, f"there is no pool; {_REMEDIES[Obstacle.NOT_READY]}")
    found = [obstacle for obstacle in Obstacle if obstacle in obstacles]
    counts = ", ".join(f"{obstacles[each]} {_WORDS[each].format(name=demand.class_name)}" for each in found)
    return Refusal(found[-1].value, f"0 of {obstacles.total()} pools fit: {counts}; {_REMEDIES[found[-1]]}")
