"""Rules of Machine beyond its schema."""

from __future__ import annotations

from collections.abc import Iterator

from services.apimachinery.errors import Cause
from services.apimachinery.schema import causes as say
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree
from services.core.model import address_sources, renderers, volume_rules


class MachineHooks(KindHooks):
    """Templates follow the rules of the kinds they become; disks with an image stay."""

    renderers = {"local-disk-image": renderers.local_disk_image}  # noqa: RUF012

    def default(self, tree: Tree) -> None:
        """Fills in the address families and lengths of interface templates."""
        for _, template in _interface_templates(tree.get("spec", {})):
            address_sources.default_interface(template)

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """Devices, templates, and on update what may become of the old disks."""
        spec = new.get("spec", {})
        found = [*_repeated_devices(spec)]
        for path, template in _interface_templates(spec):
            found += address_sources.check_interface(template, path)
        for path, template in _volume_templates(spec):
            found += volume_rules.check_template(template, path)
        if old is not None:
            found += _reused_names(spec, old)
            found += _images(spec, old.get("spec", {}))
        return found


def _interface_templates(spec: Tree) -> Iterator[tuple[str, Tree]]:
    for at, item in enumerate(spec.get("networkInterfaces", [])):
        template = item.get("ephemeral", {}).get("networkInterfaceTemplate", {}).get("spec")
        if template is not None:
            yield f"spec.networkInterfaces[{at}].ephemeral.networkInterfaceTemplate.spec", template


def _volume_templates(spec: Tree) -> Iterator[tuple[str, Tree]]:
    for at, item in enumerate(spec.get("volumes", [])):
        template = item.get("ephemeral", {}).get("volumeTemplate", {}).get("spec")
        if template is not None:
            yield f"spec.volumes[{at}].ephemeral.volumeTemplate.spec", template


def _repeated_devices(spec: Tree) -> Iterator[Cause]:
    seen: set[str] = set()
    for at, volume in enumerate(spec.get("volumes", [])):
        device = volume.get("device", "")
        if device and device in seen:
            yield say.duplicate(f"spec.volumes[{at}].device", device)
        seen.add(device)


def _reused_names(spec: Tree, old: Tree) -> Iterator[Cause]:
    """A name is free again when the disk that had it is detached."""
    present = {volume.get("name") for volume in old.get("spec", {}).get("volumes", [])}
    attached = {volume.get("name") for volume in old.get("status", {}).get("volumes", [])}
    for at, volume in enumerate(spec.get("volumes", [])):
        if volume.get("name") in attached - present:
            yield say.duplicate(f"spec.volumes[{at}].name", volume["name"])


def _images(spec: Tree, old: Tree) -> Iterator[Cause]:
    volumes = {volume.get("name"): (at, volume) for at, volume in enumerate(spec.get("volumes", []))}
    for before in old.get("volumes", []):
        image = before.get("localDisk", {}).get("image")
        if not image:
            continue
        name = before["name"]
        if name not in volumes:
            yield say.forbidden("spec.volumes", f"volume {name}: a disk with an image can't be removed")
            continue
        at, volume = volumes[name]
        if volume.get("localDisk", {}).get("image") != image:
            yield say.forbidden(f"spec.volumes[{at}].localDisk.image", say.IMMUTABLE)
