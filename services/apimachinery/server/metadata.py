"""The part of metadata that the server keeps: identity, times, generation, deletion marks. Pure."""

from __future__ import annotations

import random
from typing import Final

from services.apimachinery.errors import BadRequest, Conflict
from services.apimachinery.schema import causes
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.call import Call
from services.apimachinery.tracing import restore

NAME_CHARACTERS: Final = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words by accident
NAME_BASE: Final = 58  # of 63, the length of a DNS label (RFC 1123 2.1)
SUFFIX: Final = 5
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"

_SERVER_KEPT: Final = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


def place(call: Call, tree: Tree) -> None:
    """Fits the object's name and namespace to the request's. Raises BadRequest when they differ."""
    metadata = tree.setdefault("metadata", {})
    for field, expected in (("name", call.name), ("namespace", call.namespace)):
        given = metadata.get(field, "")
        if expected and not given:
            metadata[field] = expected
        elif expected and given != expected:
            raise BadRequest(
                f"the {field} of the object ({given}) does not match the {field} on the request ({expected})"
            )
    if not call.kind.namespaced and metadata.get("namespace"):
        raise BadRequest(f"namespace is not allowed: {call.kind.resource} is cluster-scoped")
    if call.kind.namespaced and not call.namespace:
        raise BadRequest("an empty namespace may not be set during creation")


def begin(call: Call, tree: Tree, now: str, uid: str) -> None:
    """Metadata of a new object. Raises BadRequest and Invalid."""
    metadata = tree["metadata"]
    if metadata.get("resourceVersion"):
        raise BadRequest("resourceVersion should not be set on objects to be created")
    if not metadata.get("name"):
        base = metadata.get("generateName", "")
        if not base:
            cause = causes.required("metadata.name", "name or generateName is required")
            raise causes.invalid(call.kind, "", [cause])
        metadata["name"] = generated_name(base)
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"):
        metadata.pop(field, None)
    restore(metadata, {})
    metadata.update(uid=uid, creationTimestamp=now, generation=1)


def generated_name(base: str) -> str:
    """A name that begins with `base` (generateName)."""
    return base[:NAME_BASE] + "".join(random.choices(NAME_CHARACTERS, k=SUFFIX))


def carry_over(new: Tree, old: Tree) -> None:
    """Restores what only the server may change."""
    metadata, kept = new["metadata"], old["metadata"]
    metadata.pop("selfLink", None)
    for field in _SERVER_KEPT:
        if field in kept:
            metadata[field] = kept[field]
        else:
            metadata.pop(field, None)
    if "generateName" in kept:
        metadata.setdefault("generateName", kept["generateName"])
    restore(metadata, kept)


def check_identity(call: Call, new: Tree, old: Tree) -> None:
    """Refuses a write that was meant for another object of the same name. Raises Conflict."""
    given, stored = new["metadata"].get("uid"), old["metadata"]["uid"]
    if given and given != stored:
        raise conflict(call, f"Precondition failed: UID in precondition: {given}, UID in object meta: {stored}")


def conflict(call: Call, why: str) -> Conflict:
    """A refused condition, in Kubernetes' words."""
    return Conflict(
        f'Operation cannot be fulfilled on {call.kind.resource} "{call.name}": {why}',
        kind=call.kind.plural,
        group=call.kind.group,
        name=call.name,
    )


def changed(call: Call) -> Conflict:
    """The refusal of a stale resourceVersion."""
    return conflict(call, "the object has been modified; please apply your changes to the latest version and try again")


def count_generation(new: Tree, old: Tree) -> None:
    """Counts a change of anything but metadata and status."""
    if _wanted(new) != _wanted(old):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def is_same(new: Tree, old: Tree) -> bool:
    """Whether storing `new` would change nothing that matters: times of managers don't."""
    return _without_noise(new) == _without_noise(old)


def is_deleting(tree: Tree) -> bool:
    """Whether deletion was asked for."""
    return "deletionTimestamp" in tree["metadata"]


def is_held(tree: Tree) -> bool:
    """Whether a finalizer keeps a deleted object; namespaces have further ones in their spec."""
    if tree["metadata"].get("finalizers"):
        return True
    return tree["kind"] == "Namespace" and bool(tree.get("spec", {}).get("finalizers"))


def mark_deleted(tree: Tree, now: str) -> None:
    """Records that deletion was asked for."""
    metadata = tree["metadata"]
    metadata.update(deletionTimestamp=now, deletionGracePeriodSeconds=0)
    metadata["generation"] = metadata.get("generation", 0) + 1


def _wanted(tree: Tree) -> Tree:
    return {name: value for name, value in tree.items() if name not in ("metadata", "status", "apiVersion", "kind")}


def _without_noise(tree: Tree) -> Tree:
    metadata = {name: value for name, value in tree["metadata"].items() if name != "resourceVersion"}
    managers = metadata.pop("managedFields", None) or ()
    metadata["managedFields"] = [{name: value for name, value in entry.items() if name != "time"} for entry in managers]
    return {**tree, "metadata": metadata}
