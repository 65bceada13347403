"""Kinds: what is served under which name, read from the options of the protobuf messages.

`kind_of(Machine)` is the kind of a message class; a `KindRegistry` is the set that one API server serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message

from protos.api.v1 import options_pb2

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, eq=False)
class Kind(Generic[M]):
    """A served kind. `rules` are the message's options (columns, selectable fields, name format)."""

    group: str
    version: str
    name: str
    plural: str
    singular: str
    namespaced: bool
    has_status: bool
    message: type[M]
    rules: options_pb2.KindRules

    @property
    def api_version(self) -> str:
        """`group/version`, or the bare version of the core group: what stands in an object's apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`plural.group`, as kubectl names it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def __str__(self) -> str:
        return self.resource


def kind_of(message: type[M]) -> Kind[M]:
    """The kind that a message class defines; TypeError for a message without kind options."""
    key: Any = message  # mypy doubts that a class can be hashed
    return cast(Kind[M], _kind_of(key))


@cache
def _kind_of(message: Any) -> Kind[Any]:
    descriptor: Any = message.DESCRIPTOR
    options = descriptor.GetOptions()
    if not options.HasExtension(options_pb2.kind):
        raise TypeError(f"{descriptor.full_name} is not a kind: it has no (ferrite.api.v1.kind) option")
    rules = options.Extensions[options_pb2.kind]
    name = rules.kind or descriptor.name
    return Kind(
        group=rules.group,
        version=rules.version,
        name=name,
        plural=rules.plural,
        singular=rules.singular or name.lower(),
        namespaced=rules.namespaced,
        has_status=rules.status,
        message=message,
        rules=rules,
    )


class KindRegistry:
    """The kinds of one API server."""

    def __init__(self, messages: Iterable[type[Message]]) -> None:
        self._by_plural: dict[tuple[str, str, str], Kind[Any]] = {}
        self._by_name: dict[tuple[str, str, str], Kind[Any]] = {}
        for message in messages:
            kind = kind_of(message)
            if (kind.group, kind.version, kind.plural) in self._by_plural:
                raise ValueError(f"{kind} is registered twice")
            self._by_plural[kind.group, kind.version, kind.plural] = kind
            self._by_name[kind.group, kind.version, kind.name] = kind

    def __iter__(self) -> Iterator[Kind[Any]]:
        return iter(self._by_plural.values())

    def by_plural(self, group: str, version: str, plural: str) -> Kind[Any] | None:
        """The kind behind a URL, or None."""
        return self._by_plural.get((group, version, plural))

    def by_name(self, group: str, version: str, name: str) -> Kind[Any] | None:
        """The kind that an object's apiVersion and kind name, or None."""
        return self._by_name.get((group, version, name))
