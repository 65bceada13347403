"""A kind as it is served: its storage, and what the schema can't say.

A service describes each of its kinds with a `Definition`; `define(Machine)` is enough where the schema says it all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from protos.k8s.meta.v1.meta_pb2 import ObjectMeta
from services.apimachinery.kinds import Kind, kind_of
from services.apimachinery.schema.converter import from_tree
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.allocation import Allocator
from services.apimachinery.server.auth.identity import User
from services.apimachinery.server.rendered import Rendered
from services.apimachinery.server.storage import Storage, dumps
from services.apimachinery.store.value import unpack
from services.apimachinery.store.watch_cache import Item

# What a write to a subresource takes over: (stored object, written object) -> object to store.
Merge = Callable[[Tree, Tree], Tree]
RENDERED = Rendered()

Answer = Callable[[User, Tree], Awaitable[Tree]]


@dataclass(frozen=True)
class View:
    """Another kind's way to show the same stored objects (Events exist in two groups)."""

    of: type[Message]
    to_stored: Callable[[Tree], Tree]
    from_stored: Callable[[Tree], Tree]


@dataclass(frozen=True)
class Definition:
    """What a service says about one kind.

    `lifetime` (seconds, 0 = for ever) lets objects expire after their last write. `answer` makes the kind ephemeral: a
    created object is answered and not stored. `subresources` are those beside `status`, which the kind's options give.
    """

    message: type[Message]
    hooks: KindHooks | None = None
    allocator: Allocator | None = None
    lifetime: int = 0
    encrypted: bool = False
    view: View | None = None
    answer: Answer | None = None
    subresources: Mapping[str, Merge] = field(default_factory=dict)


def define(message: type[Message], **rest: Any) -> Definition:
    """A definition; `rest` are its fields."""
    return Definition(message, **rest)


def merge_status(old: Tree, new: Tree) -> Tree:
    """The status endpoint changes the status and nothing else."""
    merged = {name: value for name, value in old.items() if name != "status"}
    metadata = dict(old["metadata"])
    if "managedFields" in new["metadata"]:
        metadata["managedFields"] = new["metadata"]["managedFields"]
    merged["metadata"] = metadata
    return {**merged, "status": new["status"]} if "status" in new else merged


@dataclass(eq=False)
class Resource:
    """A served kind. `storage` is None for kinds that are only answered."""

    definition: Definition
    storage: Storage | None

    def __post_init__(self) -> None:
        self.kind: Kind[Any] = kind_of(self.definition.message)
        self.hooks = self.definition.hooks
        self.allocator = self.definition.allocator
        self.subresources: dict[str, Merge] = dict(self.definition.subresources)
        if self.kind.has_status:
            self.subresources["status"] = merge_status

    @property
    def stored(self) -> Storage:
        """The storage; TypeError for a kind without."""
        if self.storage is None:
            raise TypeError(f"{self.kind} is not stored")
        return self.storage

    @property
    def verbs(self) -> Sequence[str]:
        """What discovery says can be done with the main resource."""
        if self.storage is None:
            return ("create",)
        return ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

    @property
    def renderers(self) -> Mapping[str, Any]:
        """Cells of printer columns that need code."""
        return self.hooks.renderers if self.hooks is not None else {}

    @property
    def builtin(self) -> bool:
        """A Kubernetes kind: served as Kubernetes protobuf too, and replaced without a resourceVersion if need be."""
        return bool(self.kind.rules.kubernetes_protobuf)

    def tree(self, item: Item) -> Tree:
        """An object in this kind's form, with its resourceVersion."""
        tree = self.stored.tree(item)
        view = self.definition.view
        return view.from_stored(tree) if view is not None else tree

    def to_stored(self, tree: Tree) -> Tree:
        """The form in which an object of this kind is stored."""
        view = self.definition.view
        return view.to_stored(tree) if view is not None else tree

    def facts(self, item: Item) -> Tree:
        """What selectors look at: name, namespace, labels and the selectable fields; made once and kept."""
        made = item.facts.get(self.kind)
        if made is None:
            tree = self.tree(item)
            metadata = {name: tree["metadata"].get(name) for name in ("name", "namespace")}
            made = {"metadata": {**metadata, "labels": tree["metadata"].get("labels", {})}}
            for path in self.kind.rules.selectable_fields:
                _copy_path(tree, made, path.split("."))
            item.facts[self.kind] = made
        return made

    def json(self, item: Item) -> bytes:
        """An object as JSON; made at first use and kept with the item while memory allows."""
        made = item.rendered.get(self.kind)
        if made is None:
            made = dumps(self.tree(item))
            RENDERED.keep(item, self.kind, made)
        return made

    def wire(self, item: Item) -> bytes:
        """An object as a serialized message of this kind, with its resourceVersion."""
        if self.definition.view is not None:
            message: bytes = from_tree(self.kind, self.tree(item)).SerializeToString()
            return message
        # Messages given twice are merged by every protobuf parser: the version is appended, nothing is parsed.
        _, payload = unpack(self.stored.opened(item))
        version = ObjectMeta(resource_version=str(item.revision)).SerializeToString()
        return payload + b"\x0a" + bytes([len(version)]) + version


def _copy_path(source: Tree, target: Tree, path: Sequence[str]) -> None:
    for name in path[:-1]:
        if not isinstance(source.get(name), dict):
            return
        source, target = source[name], target.setdefault(name, {})
    if path[-1] in source:
        target[path[-1]] = source[path[-1]]
