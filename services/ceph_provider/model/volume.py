"""Rules about volumes, and their form in the runtime interface."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from protos.iri.volume.v1alpha1 import volume_pb2 as pb
from services.ceph_provider.model import names
from services.ceph_provider.model.classes import VolumeClass, limits
from services.ceph_provider.model.record import Metadata, Record, Spec, Status, VolumeState
from services.ceph_provider.model.refusals import AlreadyExists, Invalid, NotNow, Unsupported
from services.ceph_provider.model.sizes import check_size, rounded

DRIVER: Final = "ceph"


def check_new(volume: pb.Volume, classes: Mapping[str, VolumeClass]) -> VolumeClass:
    """The class of a new volume. Raises Invalid or Unsupported with the field."""
    spec = volume.spec
    class_name = getattr(spec, "class")  # a keyword of Python
    volume_class = classes.get(class_name)
    if volume_class is None:
        raise Invalid("volume.spec.class", f"volume class '{class_name}' not supported")
    if spec.HasField("encryption"):
        raise Unsupported("volume.spec.encryption", "this runtime makes no encrypted volumes")
    if spec.HasField("volume_data_source"):
        source = spec.volume_data_source
        for member in ("image_data_source", "snapshot_data_source"):
            if source.HasField(member):
                raise Unsupported(f"volume.spec.volume_data_source.{member}", "this runtime makes empty volumes only")
        raise Invalid("volume.spec.volume_data_source", "must have a member when it is given")
    check_size("volume.spec.resources.storage_bytes", spec.resources.storage_bytes)
    return volume_class


def new_record(volume: pb.Volume, volume_class: VolumeClass, volume_id: str, wwn: str, now: int) -> Record:
    """The record of a checked volume, pending; `now` is Unix nanoseconds."""
    return Record(
        metadata=Metadata(
            id=volume_id,
            annotations={
                names.LABELS_ANNOTATION: json.dumps(dict(volume.metadata.labels), sort_keys=True),
                names.ANNOTATIONS_ANNOTATION: json.dumps(dict(volume.metadata.annotations), sort_keys=True),
            },
            labels={names.CLASS_LABEL: volume_class.name, names.MANAGER_LABEL: names.MANAGER},
            created_at=now,
            finalizers=[names.IMAGE_FINALIZER],
        ),
        spec=Spec(size=volume.spec.resources.storage_bytes, wwn=wwn, limits=limits(volume_class)),
        status=Status(),
    )


def same_order(present: Record, wanted: Record) -> Record:
    """The volume that an earlier try made. Raises NotNow while it is being deleted, AlreadyExists if it differs."""
    if present.deleting:
        raise NotNow(f"volume {present.id} of the same {names.UID_LABEL} is being deleted")
    if class_of(present) != class_of(wanted) or present.spec.size != wanted.spec.size:
        raise AlreadyExists(f"volume {present.id} of the same {names.UID_LABEL} has another class or size")
    return present


def expand(record: Record, size: int) -> None:
    """Wants the volume larger. Raises Invalid when it would not grow, NotNow while it is being deleted."""
    field = "resources.storage_bytes"
    check_size(field, size)
    if record.deleting:
        raise NotNow(f"volume {record.id} is being deleted")
    if size <= record.spec.size:
        raise Invalid(field, f"{size} must be greater than the present size, {record.spec.size}")
    record.spec.size = size
    record.metadata.generation += 1


def mark_deleted(record: Record, now: int) -> None:
    """Asks for deletion; the first time counts."""
    if not record.deleting:
        record.metadata.deleted_at = now


def managed(record: Record) -> bool:
    """Whether the record is a volume of the runtime interface (and not, say, a stand-in for a deleted one)."""
    return record.metadata.labels.get(names.MANAGER_LABEL) == names.MANAGER


def class_of(record: Record) -> str:
    """The name of its class."""
    return record.metadata.labels.get(names.CLASS_LABEL, "")


def settled(record: Record) -> bool:
    """Whether nothing is left to do for it, as far as the record tells."""
    available = record.status.state is VolumeState.AVAILABLE
    return available and not record.deleting and record.status.size == rounded(record.spec.size)


def to_iri(record: Record, monitors: str, *, failed: bool = False) -> pb.Volume:
    """The volume as clients see it. `failed`: it can't be made or served, and an event says why."""
    volume = pb.Volume()
    metadata = volume.metadata
    metadata.id = record.id
    metadata.labels.update(_strings(record, names.LABELS_ANNOTATION))
    metadata.annotations.update(_strings(record, names.ANNOTATIONS_ANNOTATION))
    metadata.created_at = record.metadata.created_at
    metadata.deleted_at = record.metadata.deleted_at or 0
    setattr(volume.spec, "class", class_of(record))
    volume.spec.resources.storage_bytes = record.spec.size
    status, access = volume.status, record.status.access
    status.resources.storage_bytes = record.status.size
    if failed:
        status.state = pb.VOLUME_ERROR
    elif record.status.state is VolumeState.AVAILABLE and access is not None:
        status.state = pb.VOLUME_AVAILABLE
        status.access.driver, status.access.handle = DRIVER, record.spec.wwn
        status.access.attributes.update({"monitors": monitors, "image": access.handle})
        status.access.secret_data.update({"userID": access.user.encode(), "userKey": access.user_key.encode()})
    return volume


def labels_fit(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether every pair of the selector is among the labels."""
    return all(labels.get(key) == value for key, value in selector.items())


def _strings(record: Record, annotation: str) -> dict[str, str]:
    """A map kept as JSON; one that is missing or broken counts as empty, since the others must still be listed."""
    try:
        found = json.loads(record.metadata.annotations.get(annotation, "null"))
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
