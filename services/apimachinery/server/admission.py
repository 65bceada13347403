"""Admission: checks that need more than the object. Each plugin may change a new object or refuse the write."""

from __future__ import annotations

from typing import Protocol

from services.apimachinery.errors import Cause, Forbidden, NotFound
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.call import Call
from services.apimachinery.server.storage import Storage

IMMORTAL = ("default", "kube-system", "kube-public")


class Admission(Protocol):
    """A plugin. `call.verb` is create, update (patches too) or delete; `call.subresource` may be set."""

    async def admit(self, call: Call, new: Tree | None, old: Tree | None) -> None:
        """Changes `new` in place, or raises ApiError. `new` is None for a deletion, `old` for a creation."""
        ...


class NamespaceLifecycle:
    """Objects are created only in namespaces that exist and stay; the namespaces of the system itself stay.

    The write is made conditional on the namespace's version, so that a namespace that is deleted at the same moment
    can't be left with content.
    """

    def __init__(self, namespaces: Storage) -> None:
        self._namespaces = namespaces

    async def admit(self, call: Call, new: Tree | None, old: Tree | None) -> None:
        """Refuses a missing namespace (404) and one in deletion (403)."""
        if call.verb == "delete" and call.kind is self._namespaces.kind and call.name in IMMORTAL:
            raise Forbidden(
                f'namespaces "{call.name}" is forbidden: this namespace may not be deleted',
                kind="namespaces",
                name=call.name,
            )
        if call.verb != "create" or not call.namespace:
            return
        item = self._namespaces.cache.get(call.namespace) if not call.guards else None
        item = item or await self._namespaces.read("", call.namespace)
        if item is None:
            raise NotFound(f'namespaces "{call.namespace}" not found', kind="namespaces", name=call.namespace)
        if is_terminating(self._namespaces.tree(item)):
            raise terminating(call)
        call.guards = {self._namespaces.key("", call.namespace): item.revision}


def is_terminating(namespace: Tree) -> bool:
    """Whether a namespace is on its way out."""
    return "deletionTimestamp" in namespace["metadata"] or namespace.get("status", {}).get("phase") == "Terminating"


def terminating(call: Call) -> Forbidden:
    """The refusal that clients recognise by its cause."""
    why = f"unable to create new content in namespace {call.namespace} because it is being terminated"
    return Forbidden(
        f'{call.kind.resource} "{call.name}" is forbidden: {why}',
        [Cause("metadata.namespace", "NamespaceTerminating", f"namespace {call.namespace} is being terminated")],
        kind=call.kind.plural,
        group=call.kind.group,
        name=call.name,
    )
