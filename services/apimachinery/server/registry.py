"""The resources of one API server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.message import Message

from services.apimachinery.kinds import Kind, kind_of
from services.apimachinery.server.resource import Definition, Resource
from services.apimachinery.server.storage import Storage
from services.apimachinery.store.etcd import Etcd
from services.apimachinery.store.value import Encryption


class Resources:
    """Resources by URL, by kind name and by message class."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._by_plural: dict[tuple[str, str, str], Resource] = {}
        self._by_name: dict[tuple[str, str, str], Resource] = {}
        for resource in resources:
            kind = resource.kind
            if (kind.group, kind.version, kind.plural) in self._by_plural:
                raise ValueError(f"{kind} is defined twice")
            self._by_plural[kind.group, kind.version, kind.plural] = resource
            self._by_name[kind.group, kind.version, kind.name] = resource

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_plural.values())

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource behind a URL, or None."""
        return self._by_plural.get((group, version, plural))

    def named(self, group: str, version: str, kind: str) -> Resource | None:
        """The resource of an object's apiVersion and kind, or None."""
        return self._by_name.get((group, version, kind))

    def of(self, message: type[Message]) -> Resource:
        """The resource of a message class. Raises KeyError."""
        kind: Kind[Message] = kind_of(message)
        return self._by_plural[kind.group, kind.version, kind.plural]

    def serves(self, message: type[Message]) -> bool:
        """Whether this server has the kind."""
        kind: Kind[Message] = kind_of(message)
        return (kind.group, kind.version, kind.plural) in self._by_plural

    def storages(self) -> list[Storage]:
        """Each storage once."""
        return list({id(resource.storage): resource.storage for resource in self if resource.storage}.values())


def build(definitions: Iterable[Definition], etcd: Etcd, encryption: Encryption | None) -> Resources:
    """Gives each definition its storage; views share that of the kind they show."""
    given = list(definitions)
    storages: Mapping[type[Message], Storage] = {
        item.message: Storage(
            etcd,
            kind_of(item.message),
            encryption=encryption if item.encrypted else None,
            lifetime=item.lifetime,
        )
        for item in given
        if item.answer is None and item.view is None
    }
    return Resources(Resource(item, storages.get(item.view.of if item.view else item.message)) for item in given)
