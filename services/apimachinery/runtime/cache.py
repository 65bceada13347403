"""What an informer knows: the objects of one kind as bytes, and indexes over them. Pure.

Objects are kept encoded (a parsed message takes seven times its wire size) and parsed for each reader, who may
therefore change what it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic

from services.apimachinery.client.objects import Key, M, key_of, metadata_of

IndexFunction = Callable[[M], Iterable[str]]


@dataclass(frozen=True)
class Difference(Generic[M]):
    """One object before and after; `old` is None for a new object, `new` for one that is gone."""

    old: M | None
    new: M | None


@dataclass(frozen=True, slots=True)
class _Entry:
    uid: str
    resource_version: str
    data: bytes


class _Index(Generic[M]):
    def __init__(self, values_of: IndexFunction[M]) -> None:
        self.values_of = values_of
        self.keys: dict[str, set[Key]] = {}

    def move(self, key: Key, old: M | None, new: M | None) -> None:
        before = set(self.values_of(old)) if old is not None else set()
        after = set(self.values_of(new)) if new is not None else set()
        for value in before - after:
            keys = self.keys[value]
            keys.discard(key)
            if not keys:
                del self.keys[value]
        for value in after - before:
            self.keys.setdefault(value, set()).add(key)


class ObjectCache(Generic[M]):
    """The last known state of each object, and what changed with each new piece of knowledge."""

    def __init__(self, kind: type[M]) -> None:
        self._kind = kind
        self._entries: dict[Key, _Entry] = {}
        self._indexes: dict[str, _Index[M]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[M]:
        return (self._parse(entry) for entry in list(self._entries.values()))

    def get(self, key: Key) -> M | None:
        """A copy of the object, or None."""
        entry = self._entries.get(key)
        return None if entry is None else self._parse(entry)

    def put(self, obj: M) -> list[Difference[M]]:
        """Takes an object's newest state. An object deleted and made anew (other uid) is two differences."""
        key, metadata = key_of(obj), metadata_of(obj)
        present = self._entries.get(key)
        if present is not None and (present.uid, present.resource_version) == (metadata.uid, metadata.resource_version):
            return []
        old = self.get(key)
        if present is not None and present.uid != metadata.uid:
            return [*self.remove(key), *self.put(obj)]
        self._entries[key] = _Entry(metadata.uid, metadata.resource_version, obj.SerializeToString())
        return [self._differs(key, old, obj)]

    def remove(self, key: Key) -> list[Difference[M]]:
        """Drops an object; nothing if it is not known."""
        old = self.get(key)
        if old is None:
            return []
        del self._entries[key]
        return [self._differs(key, old, None)]

    def replace(self, objects: Iterable[M]) -> Iterator[Difference[M]]:
        """Takes the complete present state; what is not in it is gone. To be exhausted by the caller."""
        seen: set[Key] = set()
        for obj in objects:
            seen.add(key_of(obj))
            yield from self.put(obj)
        for key in [key for key in self._entries if key not in seen]:
            yield from self.remove(key)

    def index(self, name: str, values_of: IndexFunction[M]) -> None:
        """Adds an index; `values_of` gives the values under which an object is found. ValueError if it exists."""
        if name in self._indexes:
            raise ValueError(f"index {name} exists")
        index = self._indexes[name] = _Index(values_of)
        for key, entry in self._entries.items():
            index.move(key, None, self._parse(entry))

    def by_index(self, name: str, value: str) -> list[M]:
        """The objects found under a value, in the order of their keys; KeyError for an unknown index."""
        return [self._parse(self._entries[key]) for key in sorted(self._indexes[name].keys.get(value, ()))]

    def _differs(self, key: Key, old: M | None, new: M | None) -> Difference[M]:
        for index in self._indexes.values():
            index.move(key, old, new)
        return Difference(old, new)

    def _parse(self, entry: _Entry) -> M:
        return self._kind.FromString(entry.data)
