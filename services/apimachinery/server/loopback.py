"""The server's own controllers reach its objects through the same pipeline, as trees and without a connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from services.apimachinery.errors import NotFound
from services.apimachinery.schema.decode import normalise
from services.apimachinery.schema.schema import Tree
from services.apimachinery.server.auth.identity import SYSTEM
from services.apimachinery.server.call import Call, DeleteOptions
from services.apimachinery.server.pipeline import Pipeline
from services.apimachinery.server.registry import Resources
from services.apimachinery.server.resource import Resource


class Loopback:
    """Writes as `system:apiserver`."""

    def __init__(self, pipeline: Pipeline, resources: Resources) -> None:
        self._pipeline, self.resources = pipeline, resources

    def cached(self, resource: Resource, namespace: str = "") -> Iterator[Tree]:
        """The objects in the watch cache; they may be a moment old."""
        for item in resource.stored.cache.select(f"{namespace}/" if namespace else ""):
            yield resource.tree(item)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Tree | None:
        """The newest version of an object, or None."""
        item = await resource.stored.read(namespace, name)
        return resource.tree(item) if item is not None else None

    async def create(self, resource: Resource, tree: Tree) -> Tree:
        """Stores a new object."""
        tree = normalise(resource.kind, tree).tree
        call = self._call("create", resource, tree["metadata"].get("namespace", ""), "")
        return resource.tree(await self._pipeline.create(call, tree))

    async def change(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        change: Callable[[Tree], None],
        *,
        subresource: str = "",
    ) -> Tree:
        """Changes the newest version in place, again if another write comes first."""
        call = self._call("update", resource, namespace, name, subresource)

        def changed(tree: Tree) -> Tree:
            change(tree)
            return normalise(resource.kind, tree).tree

        return resource.tree(await self._pipeline.change(call, changed))

    async def delete(self, resource: Resource, tree: Tree, propagation: str = "Background") -> None:
        """Deletes that very object (same uid); one that is gone is fine."""
        metadata = tree["metadata"]
        call = self._call("delete", resource, metadata.get("namespace", ""), metadata["name"])
        try:
            await self._pipeline.delete(call, DeleteOptions(uid=metadata["uid"], propagation=propagation))
        except NotFound:
            pass

    def _call(self, verb: str, resource: Resource, namespace: str, name: str, subresource: str = "") -> Call:
        return Call(SYSTEM, verb, resource, namespace, name, subresource, field_manager="ferrite-apiserver")
