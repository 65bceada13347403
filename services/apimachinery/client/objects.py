"""What all objects have in common: their metadata, and the ways of naming one."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, cast

from google.protobuf.message import Message

from protos.k8s.meta.v1.meta_pb2 import ObjectMeta

M = TypeVar("M", bound=Message)


class Key(NamedTuple):
    """Names an object within its kind; `namespace` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def metadata_of(obj: Message) -> ObjectMeta:
    """The object's metadata (the same instance: changes show in the object)."""
    return cast(ObjectMeta, cast(Any, obj).metadata)


def key_of(obj: Message) -> Key:
    """The object's key."""
    metadata = metadata_of(obj)
    return Key(metadata.namespace, metadata.name)


def is_deleting(obj: Message) -> bool:
    """Whether deletion was asked for and finalizers still hold the object."""
    return metadata_of(obj).HasField("deletion_timestamp")
