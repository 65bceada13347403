"""What is scheduled: machines to machine pools, volumes to volume pools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.storage.v1alpha1.volume_pb2 import Volume
from protos.storage.v1alpha1.volume_pool_pb2 import VolumePool
from services.core.model import demands
from services.core.model.ledger import Booking
from services.core.model.placement import Demand, Offer

O = TypeVar("O", bound=Message)  # noqa: E741 - the scheduled object
P = TypeVar("P", bound=Message)


@dataclass(frozen=True)
class Subject(Generic[O, P]):
    """One kind of objects and its kind of pools; `field` is the JSON name of the pool reference in the spec."""

    scheduler: str
    kind: type[O]
    pool: type[P]
    field: str
    demand: Callable[[O], Demand | None]
    booking: Callable[[O], Booking | None]
    offer: Callable[[P], Offer]

    def conditions(self, obj: O) -> Any:
        """The object's conditions."""
        return obj.status.conditions  # type: ignore[attr-defined]


MACHINES: Final = Subject(
    scheduler="machine-scheduler",
    kind=Machine,
    pool=MachinePool,
    field="machinePoolRef",
    demand=demands.machine_demand,
    booking=demands.machine_booking,
    offer=demands.machine_offer,
)
VOLUMES: Final = Subject(
    scheduler="volume-scheduler",
    kind=Volume,
    pool=VolumePool,
    field="volumePoolRef",
    demand=demands.volume_demand,
    booking=demands.volume_booking,
    offer=demands.volume_offer,
)
