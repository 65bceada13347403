"""The one interface through which controllers, poollets and agents read and write objects.

Objects are the kinds' protobuf messages (`Machine`, `Secret`, ...); a kind is named by its message class. Two
implementations behave alike and pass one contract test: `grpc.py` (default) and `rest.py` (any Kubernetes API server).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


class Patch(Enum):
    """How a patch is read."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    JSON = "application/json-patch+json"


class Change(Enum):
    """What a watch event says."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True)
class Page(Generic[M]):
    """All objects of a list, and the version from which a watch goes on without a gap."""

    items: list[M]
    resource_version: str


@dataclass(frozen=True)
class WatchEvent(Generic[M]):
    """One change; a BOOKMARK's object carries only metadata.resource_version."""

    change: Change
    object: M


class Client(Protocol):
    """Access to one API server.

    All methods raise `services.apimachinery.errors.ApiError` (NotFound, AlreadyExists, Conflict, Invalid, Forbidden,
    Gone, Unavailable, ...). Every unary call has a deadline. `namespace` stays empty for cluster-scoped kinds and, in
    list and watch, for all namespaces. `labels` and `fields` are Kubernetes selector strings.
    """

    async def get(self, kind: type[M], name: str, namespace: str = "") -> M:
        """One object; NotFound when there is none."""
        ...

    async def list(self, kind: type[M], namespace: str = "", *, labels: str = "", fields: str = "") -> Page[M]:
        """All matching objects (paging is done inside)."""
        ...

    def watch(
        self, kind: type[M], namespace: str = "", *, labels: str = "", fields: str = "", resource_version: str = ""
    ) -> AsyncIterator[WatchEvent[M]]:
        """Changes after `resource_version`; Gone when that has been compacted. Ends when the server closes."""
        ...

    async def create(self, obj: M) -> M:
        """Stores a new object; metadata.generate_name works."""
        ...

    async def update(self, obj: M) -> M:
        """Replaces all but the status; Conflict when metadata.resource_version is not the stored one."""
        ...

    async def update_status(self, obj: M) -> M:
        """Replaces the status only."""
        ...

    async def patch(
        self,
        kind: type[M],
        name: str,
        patch: Mapping[str, Any] | Sequence[Any],
        namespace: str = "",
        *,
        how: Patch = Patch.MERGE,
        subresource: str = "",
    ) -> M:
        """Changes part of an object; `patch` is JSON with the kind's JSON names.

        With metadata.resourceVersion in it the write is conditional.
        """
        ...

    async def apply(self, obj: M, manager: str, *, force: bool = True, subresource: str = "") -> M:
        """Server-side apply of the fields that are set in `obj`; creates a missing object."""
        ...

    async def delete(self, kind: type[M], name: str, namespace: str = "", *, uid: str = "") -> None:
        """Deletes, or marks as deleting while there are finalizers; NotFound when gone.

        With `uid` only that very object is deleted (else Conflict).
        """
        ...

    async def close(self) -> None:
        """Ends the connections."""
        ...
