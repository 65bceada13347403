"""Admission plugins of the core kinds. They answer 400, where validation would answer 422 (as the original does)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from protos.compute.v1alpha1.machine_pb2 import Machine
from protos.storage.v1alpha1.volume_pb2 import Volume
from services.apimachinery.errors import BadRequest
from services.apimachinery.kinds import Kind, kind_of
from services.apimachinery.schema.quantity import Quantity
from services.apimachinery.schema.schema import Tree
from services.core.model.devices import assign_devices


class Write(Protocol):
    """What a plugin looks at of the request."""

    subresource: str

    @property
    def kind(self) -> Kind[Any]:
        """The written kind."""
        ...


class MachineVolumeDevices:
    """Names the disks of machines that have no device name."""

    async def admit(self, call: Write, new: Tree | None, old: Tree | None) -> None:
        """Fills spec.volumes[].device in place; BadRequest for names that clash or run out."""
        if new is not None and not call.subresource and call.kind is kind_of(Machine):
            assign_devices(new, old)


class VolumeExpansion:
    """Lets the size of a volume change only as the resize policy of its class says.

    `find_class` gives the VolumeClass of a name, None when there is none.
    """

    def __init__(self, find_class: Callable[[str], Awaitable[Tree | None]]) -> None:
        self._find_class = find_class

    async def admit(self, call: Write, new: Tree | None, old: Tree | None) -> None:
        """BadRequest for a forbidden change of spec.resources.storage."""
        if new is None or old is None or call.subresource or call.kind is not kind_of(Volume):
            return
        class_name = new.get("spec", {}).get("volumeClassRef", {}).get("name", "")
        if not class_name or _storage(new) == _storage(old):
            return
        volume_class = await self._find_class(class_name)
        check_expansion(new, old, class_name, volume_class)


def check_expansion(new: Tree, old: Tree, class_name: str, volume_class: Tree | None) -> None:
    """BadRequest unless the class lets the volume change from its old to its new size."""
    field = "spec.resources.storage"
    wanted, present = _storage(new), _storage(old)
    if wanted is None or present is None:
        raise BadRequest(f"{field}: a volume with a class must have a size")
    if wanted == present:
        return
    if volume_class is None:
        raise BadRequest(f"{field}: VolumeClass {class_name}, which says whether the size may change, does not exist")
    if volume_class.get("resizePolicy", "Static") != "ExpandOnly":
        raise BadRequest(f"{field}: VolumeClass {class_name} has resizePolicy Static: its volumes can't be resized")
    if wanted < present:
        raise BadRequest(f"{field}: VolumeClass {class_name} has resizePolicy ExpandOnly: a volume can't shrink")


def _storage(volume: Tree) -> Quantity | None:
    text = volume.get("spec", {}).get("resources", {}).get("storage")
    try:
        return None if text is None else Quantity.parse(str(text))
    except ValueError as error:
        raise BadRequest(f"spec.resources.storage: {error}") from None
