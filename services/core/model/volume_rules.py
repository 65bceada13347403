"""Rules of Volume and Bucket beyond their schemas. Without a class they are provided by somebody else."""

from __future__ import annotations

from collections.abc import Iterator

from services.apimachinery.errors import Cause
from services.apimachinery.schema import causes as say
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.quantity import Quantity
from services.apimachinery.schema.schema import Tree


class VolumeHooks(KindHooks):
    """A class needs a size, and whatever needs a class needs it."""

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """The rules of `check_spec`."""
        return check_spec(new.get("spec", {}), "spec")


class BucketHooks(KindHooks):
    """What is about pools needs a class."""

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """Refuses placement of a bucket without class."""
        return [*_needs_class(new.get("spec", {}), "spec", "bucketClassRef", ("bucketPoolSelector", "bucketPoolRef"))]


def check_spec(spec: Tree, path: str) -> list[Cause]:
    """The rules of a volume's spec, also within a template."""
    if "volumeClassRef" in spec:
        return [*_size(spec, path)]
    found = [*_needs_class(spec, path, "volumeClassRef", ("volumePoolSelector", "volumePoolRef", "resources"))]
    if "osImage" in spec.get("dataSource", {}):
        found.append(say.forbidden(f"{path}.dataSource.osImage", _without("volumeClassRef")))
    return found


def check_template(spec: Tree, path: str) -> list[Cause]:
    """The rules of a machine's volume template: the machine will claim the volume, nobody else."""
    found = check_spec(spec, path)
    if "claimRef" in spec:
        found.append(say.forbidden(f"{path}.claimRef", "may not specify claimRef"))
    if spec.get("unclaimable"):
        found.append(say.forbidden(f"{path}.unclaimable", "may not be unclaimable"))
    return found


def _size(spec: Tree, path: str) -> Iterator[Cause]:
    storage = spec.get("resources", {}).get("storage")
    if storage is None:
        yield say.required(f"{path}.resources.storage", "a volume with a class needs a size")
    elif Quantity.parse(storage).nano <= 0:
        yield say.invalid_value(f"{path}.resources.storage", storage, "must be greater than zero")


def _needs_class(spec: Tree, path: str, reference: str, members: tuple[str, ...]) -> Iterator[Cause]:
    if reference in spec:
        return
    for name in (*members, "tolerations"):
        if spec.get(name):
            yield say.forbidden(f"{path}.{name}", _without(reference))


def _without(reference: str) -> str:
    return f"must not be set without {reference}"
