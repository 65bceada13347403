"""Makes and removes the objects that an owner's spec describes by templates; `model/ephemeral.py` has the rules.

Children are never changed when a template does, and not touched while the owner is being deleted: the garbage
collector removes them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from services.apimachinery.client.objects import Key, is_deleting, key_of, metadata_of
from services.apimachinery.errors import AlreadyExists, Conflict, NotFound
from services.apimachinery.kinds import kind_of
from services.apimachinery.runtime.manager import Manager
from services.apimachinery.runtime.owners import controller_of
from services.apimachinery.runtime.reconciler import Reconciler
from services.apimachinery.runtime.recorder import WARNING
from services.common.logs import get_logger
from services.core.model.ephemeral import difference

log = get_logger(__name__)

O = TypeVar("O", bound=Message)  # noqa: E741 - the owner
C = TypeVar("C", bound=Message)

WORKERS: Final = 4


class EphemeralChildren(Reconciler, Generic[O, C]):
    """The common part; subclasses say which children an owner wants."""

    def __init__(self, manager: Manager, name: str, owner: type[O], child: type[C]) -> None:
        super().__init__(name, workers=WORKERS)
        self.client = manager.client
        self.events = manager.recorder(name)
        self.owner_kind, self.child_kind = kind_of(owner), kind_of(child)
        self.owners = manager.informer(owner)
        self.children = manager.informer(child)
        self._owned, self._wanted = f"{name}/owned", f"{name}/wanted"
        self.children.index(self._owned, self.owner_uids)
        self.owners.index(self._wanted, lambda owner: self._paths(owner, self.names(owner)))
        self.watch(self.owners)
        self.watch(self.children, self._owner_keys)

    @abstractmethod
    async def wanted(self, owner: O) -> list[C]:
        """The children that the owner's spec describes."""

    @abstractmethod
    def names(self, owner: O) -> Iterable[str]:
        """Their names."""

    def owner_uids(self, child: C) -> Iterable[str]:
        """The uids of whoever may manage a child."""
        controller = controller_of(child)
        return [controller.uid] if controller is not None else []

    async def ensure(self, owner: O, child: C) -> None:
        """Creates a missing child. One that appeared meanwhile is looked at when its event comes."""
        try:
            await self.client.create(child)
        except AlreadyExists:
            return
        log.info("ephemeral object created", kind=self.child_kind.name, name=metadata_of(child).name)

    async def reconcile(self, key: Key) -> float | None:
        """Makes what is missing, deletes what is no longer wanted."""
        owner = self.owners.get(key.name, key.namespace)
        if owner is None or is_deleting(owner):
            return None
        wanted = await self.wanted(owner)
        steps = difference(owner, wanted, self._present(owner, wanted))
        for child in steps.delete:
            await self._release(child)
        for name in steps.foreign:
            note = f"{self.child_kind.name} {name} exists and belongs to somebody else; delete it or rename the item"
            self.events.event(owner, WARNING, "NameTaken", note, action="Create")
        for child in steps.create:
            await self.ensure(owner, child)
        return None

    def _present(self, owner: O, wanted: list[C]) -> list[C]:
        metadata = metadata_of(owner)
        found = {key_of(child): child for child in self.children.by_index(self._owned, metadata.uid)}
        for child in wanted:
            key = key_of(child)
            present = found.get(key) or self.children.get(key.name, key.namespace)
            if present is not None:
                found[key] = present
        return [child for key, child in found.items() if key.namespace == metadata.namespace]

    async def _release(self, child: C) -> None:
        key = key_of(child)
        try:
            await self.client.delete(type(child), key.name, key.namespace, uid=metadata_of(child).uid)
        except (NotFound, Conflict):
            return
        log.info("ephemeral object deleted", kind=self.child_kind.name, name=key.name)

    def _owner_keys(self, child: C) -> list[Key]:
        namespace, name = key_of(child)
        controller = controller_of(child)
        keys = [key_of(owner) for owner in self.owners.by_index(self._wanted, f"{namespace}/{name}")]
        if controller is not None and controller.kind == self.owner_kind.name:
            keys.append(Key(namespace, controller.name))
        return keys

    @staticmethod
    def _paths(owner: O, names: Iterable[str]) -> list[str]:
        return [f"{metadata_of(owner).namespace}/{name}" for name in names]
