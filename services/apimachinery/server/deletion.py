"""Deleting: conditions, finalizers, and what becomes of the objects that the deleted one owns. Pure."""

from __future__ import annotations

from services.apimachinery.errors import BadRequest, Invalid
from services.apimachinery.schema import causes
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.call import Call, DeleteOptions
from services.apimachinery.server.metadata import FOREGROUND, ORPHAN, conflict, is_deleting, mark_deleted

# Propagation policy -> the finalizer with which the garbage collector does its part first.
_FINALIZERS = {"": "", "Background": "", "Foreground": FOREGROUND, "Orphan": ORPHAN}


def check_options(call: Call, options: DeleteOptions) -> None:
    """Refuses an unknown propagation policy. Raises Invalid, BadRequest."""
    if options.propagation not in _FINALIZERS:
        cause = causes.not_supported("propagationPolicy", options.propagation, [name for name in _FINALIZERS if name])
        raise Invalid(f"DeleteOptions is invalid: propagationPolicy: {cause.message}", [cause], kind="DeleteOptions")
    if options.grace_seconds is not None and options.grace_seconds < 0:
        raise BadRequest(f"gracePeriodSeconds must not be negative, got {options.grace_seconds}")


def check_preconditions(call: Call, tree: Tree, options: DeleteOptions) -> None:
    """Raises Conflict when the stored object is not the one that was meant."""
    metadata = tree["metadata"]
    if options.uid and options.uid != metadata["uid"]:
        raise conflict(
            call, f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {metadata['uid']}"
        )
    if options.resource_version and options.resource_version != metadata["resourceVersion"]:
        raise conflict(
            call,
            f"Precondition failed: ResourceVersion in precondition: {options.resource_version}, "
            f"ResourceVersion in object meta: {metadata['resourceVersion']}",
        )


def mark(tree: Tree, options: DeleteOptions, now: str) -> None:
    """Records the request in the object: deletion time, and the finalizer of its propagation policy."""
    metadata = tree["metadata"]
    finalizers = [name for name in metadata.get("finalizers", ()) if name not in (ORPHAN, FOREGROUND)]
    wanted = _FINALIZERS[options.propagation]
    if not options.propagation:  # the finalizers that are there decide, as set by an earlier request
        finalizers = list(metadata.get("finalizers", ()))
    elif wanted:
        finalizers.append(wanted)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    if not is_deleting(tree):
        mark_deleted(tree, now)
    if tree["kind"] == "Namespace":
        tree.setdefault("status", {})["phase"] = "Terminating"
