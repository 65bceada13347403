"""Machines, volumes and their pools as the scheduler's demands, offers and bookings."""

from __future__ import annotations

from collections.abc import Mapping

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.compute.v1alpha1.machine_pool_pb2 import MachinePool
from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from protos.storage.v1alpha1.volume_pb2 import Volume
from protos.storage.v1alpha1.volume_pool_pb2 import VolumePool
from services.apimachinery.schema.quantity import Quantity
from services.core.model.ledger import Booking
from services.core.model.placement import Demand, Offer

READY = "Ready"


def machine_demand(machine: Machine) -> Demand | None:
    """One machine of its class; None for one that is bound or being deleted."""
    spec = machine.spec
    if spec.machine_pool_ref.name or _is_deleting(machine.metadata):
        return None
    return Demand(spec.machine_class_ref.name, 1, dict(spec.machine_pool_selector), list(spec.tolerations))


def machine_booking(machine: Machine) -> Booking | None:
    """The share of a bound machine, also while it is being deleted; None for one without pool."""
    pool = machine.spec.machine_pool_ref.name
    return Booking(pool, machine.spec.machine_class_ref.name, 1) if pool else None


def machine_offer(pool: MachinePool) -> Offer:
    """A pool is ready while its condition Ready is True; one being deleted takes nothing more."""
    ready = any(condition.type == READY and condition.status == "True" for condition in pool.status.conditions)
    return Offer(
        pool.metadata.name,
        ready and not _is_deleting(pool.metadata),
        dict(pool.metadata.labels),
        list(pool.spec.taints),
        _capacity(pool.status.capacity, "class/machine."),
    )


def volume_demand(volume: Volume) -> Demand | None:
    """The bytes of a volume's class; None for one that is bound, without class, or being deleted."""
    spec = volume.spec
    if not spec.volume_class_ref.name or spec.volume_pool_ref.name or _is_deleting(volume.metadata):
        return None
    return Demand(spec.volume_class_ref.name, _bytes(volume), dict(spec.volume_pool_selector), list(spec.tolerations))


def volume_booking(volume: Volume) -> Booking | None:
    """The share of a bound volume, also while it is being deleted; None for one without pool."""
    pool = volume.spec.volume_pool_ref.name
    return Booking(pool, volume.spec.volume_class_ref.name, _bytes(volume)) if pool else None


def volume_offer(pool: VolumePool) -> Offer:
    """Volume pools have no heartbeat: one that does not say of itself that it is not Ready counts as ready."""
    unready = any(condition.type == READY and condition.status != "True" for condition in pool.status.conditions)
    return Offer(
        pool.metadata.name,
        not unready and not _is_deleting(pool.metadata),
        dict(pool.metadata.labels),
        list(pool.spec.taints),
        _capacity(pool.status.capacity, "class/volume."),
    )


def _is_deleting(metadata: ObjectMeta) -> bool:
    return metadata.HasField("deletion_timestamp")


def _bytes(volume: Volume) -> int:
    return Quantity.parse(volume.spec.resources["storage"]).value if "storage" in volume.spec.resources else 0


def _capacity(capacity: Mapping[str, str], prefix: str) -> dict[str, int]:
    return {
        key.removeprefix(prefix): Quantity.parse(amount).value
        for key, amount in capacity.items()
        if key.startswith(prefix)
    }
