"""Rules of `metadata`, the same for every kind (Kubernetes API conventions, Metadata)."""

from __future__ import annotations

from typing import Any, Final

from services.apimachinery.errors import Cause
from services.apimachinery.kinds import Kind
from services.apimachinery.schema import causes as say
from services.apimachinery.schema import formats
from services.apimachinery.schema.rules import check_labels
from services.apimachinery.schema.schema import Tree

_MOST_ANNOTATION_BYTES: Final = 256 * 1024
_FIXED: Final = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def validate_metadata(kind: Kind[Any], tree: Tree, old: Tree | None) -> list[Cause]:
    """Broken rules of names, labels, annotations, finalizers and owners; against the stored object on an update."""
    metadata: Tree = tree.get("metadata", {})
    found: list[Cause] = []
    _name(kind, metadata, found)
    _namespace(kind, metadata, found)
    check_labels(metadata.get("labels", {}), "metadata.labels", found)
    _annotations(metadata.get("annotations", {}), found)
    _finalizers(metadata.get("finalizers", []), found)
    _owners(metadata.get("ownerReferences", []), found)
    if metadata.get("generation", 0) < 0:
        rule = "must be greater than or equal to 0"
        found.append(say.invalid_value("metadata.generation", metadata["generation"], rule))
    if old is not None:
        _change(metadata, old.get("metadata", {}), found)
    return found


def _name(kind: Kind[Any], metadata: Tree, found: list[Cause]) -> None:
    fits = formats.FORMATS[kind.rules.name_format or "dns-subdomain"]
    name, prefix = metadata.get("name"), metadata.get("generateName")
    if prefix and (why := fits(f"{prefix[:-1]}a" if prefix.endswith("-") else prefix)):
        found.append(say.invalid_value("metadata.generateName", prefix, why))
    if not name:
        found.append(say.required("metadata.name", "name or generateName is required"))
    elif why := fits(name):
        found.append(say.invalid_value("metadata.name", name, why))


def _namespace(kind: Kind[Any], metadata: Tree, found: list[Cause]) -> None:
    namespace = metadata.get("namespace")
    if not kind.namespaced:
        if namespace:
            found.append(say.forbidden("metadata.namespace", "not allowed on this type"))
    elif not namespace:
        found.append(say.required("metadata.namespace"))
    elif why := formats.dns_label(namespace):
        found.append(say.invalid_value("metadata.namespace", namespace, why))


def _annotations(annotations: Tree, found: list[Cause]) -> None:
    for key in annotations:
        if why := formats.qualified_name(key.lower()):
            found.append(say.invalid_value("metadata.annotations", key, why))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _MOST_ANNOTATION_BYTES:
        found.append(say.too_long("metadata.annotations", _MOST_ANNOTATION_BYTES))


def _finalizers(finalizers: list[str], found: list[Cause]) -> None:
    for at, finalizer in enumerate(finalizers):
        if why := formats.qualified_name(finalizer):
            found.append(say.invalid_value(f"metadata.finalizers[{at}]", finalizer, why))
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        rule = "finalizers orphan and foregroundDeletion exclude each other"
        found.append(say.invalid_value("metadata.finalizers", finalizers, rule))


def _owners(owners: list[Tree], found: list[Cause]) -> None:
    """Presence of an owner's members is said by the proto's options."""
    controllers = [owner for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        rule = "only one reference can have controller set to true"
        found.append(say.invalid_value("metadata.ownerReferences", [each["name"] for each in controllers], rule))
    for at, owner in enumerate(owners):
        if owner.get("apiVersion", "").count("/") > 1:
            path = f"metadata.ownerReferences[{at}].apiVersion"
            found.append(say.invalid_value(path, owner["apiVersion"], "must be a version or group/version"))
        if owner.get("kind") == "Event" and owner.get("apiVersion") in ("v1", "events.k8s.io/v1"):
            found.append(say.invalid_value(f"metadata.ownerReferences[{at}]", "Event", "an event can't own an object"))


def _change(metadata: Tree, old: Tree, found: list[Cause]) -> None:
    for name in _FIXED:
        if metadata.get(name) != old.get(name):
            found.append(say.invalid_value(f"metadata.{name}", metadata.get(name), say.IMMUTABLE))
    if metadata.get("generation", 0) < old.get("generation", 0):
        found.append(say.invalid_value("metadata.generation", metadata.get("generation", 0), "must not be decremented"))
    fresh = set(metadata.get("finalizers", [])) - set(old.get("finalizers", []))
    if old.get("deletionTimestamp") and fresh:
        rule = f"no new finalizers can be added if the object is being deleted, found {', '.join(sorted(fresh))}"
        found.append(say.forbidden("metadata.finalizers", rule))
