"""Owner references: who an object belongs to; the garbage collector deletes it with its owner."""

from __future__ import annotations

from google.protobuf.message import Message

from protos.k8s.meta.v1.meta_pb2 import OwnerReference
from services.apimachinery.client.objects import metadata_of
from services.apimachinery.kinds import kind_of


class AlreadyOwned(Exception):
    """Another object controls this one; two controllers would fight over it."""

    def __init__(self, obj: Message, controller: OwnerReference) -> None:
        super().__init__(f"{metadata_of(obj).name} is controlled by {controller.kind} {controller.name}")


def owner_reference(owner: Message, *, controller: bool = False, block_deletion: bool = False) -> OwnerReference:
    """A reference to a stored object (it needs its uid: ValueError without)."""
    metadata, kind = metadata_of(owner), kind_of(type(owner))
    if not metadata.uid:
        raise ValueError(f"{kind.name} {metadata.name} has no uid: only a stored object can own others")
    reference = OwnerReference(api_version=kind.api_version, kind=kind.name, name=metadata.name, uid=metadata.uid)
    if controller:
        reference.controller = True
    if block_deletion:
        reference.block_owner_deletion = True
    return reference


def controller_of(obj: Message) -> OwnerReference | None:
    """The owner that controls the object, or None."""
    return next((reference for reference in metadata_of(obj).owner_references if reference.controller), None)


def is_controlled_by(obj: Message, owner: Message) -> bool:
    """Whether that very owner (same uid) controls the object."""
    controller = controller_of(obj)
    return controller is not None and controller.uid == metadata_of(owner).uid


def set_owner_reference(owner: Message, obj: Message) -> None:
    """Makes `owner` one of the owners of `obj` (in memory)."""
    _put(obj, owner_reference(owner))


def set_controller_reference(owner: Message, obj: Message) -> None:
    """Makes `owner` the controller of `obj` (in memory); AlreadyOwned when another object is."""
    controller = controller_of(obj)
    if controller is not None and controller.uid != metadata_of(owner).uid:
        raise AlreadyOwned(obj, controller)
    _put(obj, owner_reference(owner, controller=True, block_deletion=True))


def _put(obj: Message, reference: OwnerReference) -> None:
    references = metadata_of(obj).owner_references
    for present in references:
        if present.uid == reference.uid:
            present.MergeFrom(reference)
            return
    references.append(reference)
