"""Finalizers: an object stays, marked as deleting, until everyone who put one has cleaned up."""

from __future__ import annotations

from google.protobuf.message import Message

from services.apimachinery.client.interface import Client
from services.apimachinery.client.objects import M, metadata_of
from services.apimachinery.errors import NotFound


async def ensure_finalizer(client: Client, obj: M, finalizer: str) -> M:
    """Puts the finalizer unless it is there; returns the object as stored.

    Raises Conflict when the object changed since `obj` was read: two writers of the list must not undo each other.
    """
    present = list(metadata_of(obj).finalizers)
    if finalizer in present:
        return obj
    return await _write(client, obj, [*present, finalizer])


async def remove_finalizer(client: Client, obj: M, finalizer: str) -> M | None:
    """Takes the finalizer off; None when that, or somebody before, made the object disappear.

    Raises Conflict when the object changed since `obj` was read.
    """
    present = list(metadata_of(obj).finalizers)
    if finalizer not in present:
        return obj
    try:
        return await _write(client, obj, [name for name in present if name != finalizer])
    except NotFound:
        return None


def has_finalizer(obj: Message, finalizer: str) -> bool:
    """Whether the object carries the finalizer."""
    return finalizer in metadata_of(obj).finalizers


async def _write(client: Client, obj: M, finalizers: list[str]) -> M:
    metadata = metadata_of(obj)
    patch = {
        "metadata": {
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
            "finalizers": finalizers,
        }
    }
    return await client.patch(type(obj), metadata.name, patch, metadata.namespace)
