"""A machine's record: what was asked, what is still to be undone, and what was last observed. Pure changes.

Every change takes a record that it may alter (the store hands out a copy) and raises `Refusal` before altering it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from services.libvirt_provider.model.classes import MachineClass
from services.libvirt_provider.model.refusals import AlreadyExists, Invalid, NotFound, NotNow
from services.libvirt_provider.model.validation import check_nic, check_volume, check_volumes_and_nics


@dataclass
class Record:
    """One machine as it is kept on disk.

    `machine` is what clients see. `leaving_volumes` and `leaving_nics` were detached by the client but may still be
    held by the guest. `power_off_since` (unix nanoseconds, 0 = never) is when power off was asked for. `image_digests`
    are the manifests that image references meant at the first start: a restart uses the same ones. `revision` counts
    writes. `trace` is the traceparent of the call that asked last, empty when that was not traced.
    """

    machine: pb.Machine
    cpus: int
    memory: int
    power_off_since: int = 0
    image_digests: dict[str, str] = field(default_factory=dict)
    leaving_volumes: list[pb.Volume] = field(default_factory=list)
    leaving_nics: list[pb.NetworkInterface] = field(default_factory=list)
    revision: int = 0
    trace: str = ""

    @property
    def id(self) -> str:
        """Also the domain's name and UUID."""
        return self.machine.metadata.id

    @property
    def deleting(self) -> bool:
        """Whether deletion was asked for."""
        return self.machine.metadata.deleted_at > 0

    @property
    def wanted_off(self) -> bool:
        """Whether no domain shall run."""
        return self.deleting or self.machine.spec.power == pb.POWER_OFF

    @property
    def off_since(self) -> int:
        """When it was asked to stop (unix nanoseconds), 0 when it is not."""
        return self.machine.metadata.deleted_at or self.power_off_since

    @property
    def boot_image(self) -> str:
        """Reference of the first image that a local disk names; empty when there is none."""
        return next(iter(self.images), "")

    @property
    def images(self) -> list[str]:
        """References of all images, in the order of the volumes."""
        found = [volume.local_disk.image.image for volume in self.machine.spec.volumes]
        return [reference for reference in found if reference]


def new_record(asked: pb.Machine, machine_class: MachineClass, machine_id: str, now: int) -> Record:
    """The record of a new machine; raises Invalid for a wrong volume or network interface."""
    check_volumes_and_nics(asked.spec)
    if asked.spec.power not in (pb.POWER_ON, pb.POWER_OFF):
        raise Invalid("machine.spec.power", f"{asked.spec.power} is neither POWER_ON (0) nor POWER_OFF (1)")
    machine = pb.Machine(spec=asked.spec, status=pb.MachineStatus(state=pb.MACHINE_PENDING))
    machine.metadata.id = machine_id
    machine.metadata.created_at = now
    machine.metadata.labels.update(asked.metadata.labels)
    machine.metadata.annotations.update(asked.metadata.annotations)
    record = Record(machine, machine_class.cpus, machine_class.memory)
    if asked.spec.power == pb.POWER_OFF:
        record.power_off_since = now
    return record


def mark_deleted(record: Record, now: int) -> None:
    """Deletion begins; asked again it goes on as it began."""
    record.machine.metadata.deleted_at = record.machine.metadata.deleted_at or now


def set_annotations(record: Record, annotations: Mapping[str, str]) -> None:
    """Replaces all annotations."""
    record.machine.metadata.annotations.clear()
    record.machine.metadata.annotations.update(annotations)


def set_power(record: Record, power: pb.Power.ValueType, now: int) -> None:
    """Switches on or off; Invalid for any other value."""
    if power not in (pb.POWER_ON, pb.POWER_OFF):
        raise Invalid("power", f"{power} is neither POWER_ON (0) nor POWER_OFF (1)")
    if power == pb.POWER_ON:
        record.power_off_since = 0
    elif record.machine.spec.power == pb.POWER_ON:
        record.power_off_since = now
    record.machine.spec.power = power


def attach_volume(record: Record, volume: pb.Volume) -> None:
    """Adds a volume; AlreadyExists for its name, NotNow while one of that name is being detached."""
    _must_live(record)
    check_volume("volume", volume)
    if any(other.name == volume.name for other in record.machine.spec.volumes):
        raise AlreadyExists(f"machine {record.id} has a volume {volume.name!r}")
    for other in [*record.machine.spec.volumes, *record.leaving_volumes]:
        if other.name == volume.name:
            raise NotNow(f"volume {volume.name!r} of machine {record.id} is still being detached")
        if other.device == volume.device:
            raise NotNow(f"device {volume.device!r} of machine {record.id} is in use by volume {other.name!r}")
    record.machine.spec.volumes.append(volume)


def detach_volume(record: Record, name: str) -> None:
    """Takes a volume out of the spec; it stays known until the guest has let go. NotFound for an unknown name."""
    for index, volume in enumerate(record.machine.spec.volumes):
        if volume.name == name:
            record.leaving_volumes.append(volume)
            del record.machine.spec.volumes[index]
            return
    raise NotFound(f"machine {record.id} has no volume {name!r}")


def update_volume(record: Record, volume: pb.Volume) -> None:
    """Replaces the connection of a volume: its size may grow, its credentials change, its identity stays."""
    for present in record.machine.spec.volumes:
        if present.name == volume.name:
            _check_update(present, volume)
            present.connection.CopyFrom(volume.connection)
            return
    raise NotFound(f"machine {record.id} has no volume {volume.name!r}")


def attach_nic(record: Record, nic: pb.NetworkInterface) -> None:
    """Adds a network interface; AlreadyExists for its name, NotNow while one of that name is being detached."""
    _must_live(record)
    check_nic("network_interface", nic)
    if any(other.name == nic.name for other in record.machine.spec.network_interfaces):
        raise AlreadyExists(f"machine {record.id} has a network interface {nic.name!r}")
    if any(other.name == nic.name for other in record.leaving_nics):
        raise NotNow(f"network interface {nic.name!r} of machine {record.id} is still being detached")
    record.machine.spec.network_interfaces.append(nic)


def detach_nic(record: Record, name: str) -> None:
    """Takes a network interface out of the spec; it stays known until the guest has let go."""
    for index, nic in enumerate(record.machine.spec.network_interfaces):
        if nic.name == name:
            record.leaving_nics.append(nic)
            del record.machine.spec.network_interfaces[index]
            return
    raise NotFound(f"machine {record.id} has no network interface {name!r}")


def _must_live(record: Record) -> None:
    if record.deleting:
        raise NotNow(f"machine {record.id} is being deleted")


def _check_update(present: pb.Volume, wanted: pb.Volume) -> None:
    if not present.HasField("connection") or not wanted.HasField("connection"):
        raise Invalid("volume.connection", "only a volume with a connection can be updated, to another connection")
    check_volume("volume", pb.Volume(name=present.name, device=present.device, connection=wanted.connection))
    before, after = present.connection, wanted.connection
    for name in ("driver", "handle"):
        if getattr(before, name) != getattr(after, name):
            raise Invalid(f"volume.connection.{name}", "must not change: detach the volume and attach the other one")
    if after.effective_storage_bytes < before.effective_storage_bytes:
        raise Invalid(
            "volume.connection.effective_storage_bytes",
            f"must not shrink from {before.effective_storage_bytes} to {after.effective_storage_bytes}",
        )
