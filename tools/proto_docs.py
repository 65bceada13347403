"""Reads build/descriptors.pb for documentation: packages with their services, messages, enums and comments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from protos.api.v1 import options_pb2

DESCRIPTORS: Final = Path(__file__).resolve().parent.parent / "build" / "descriptors.pb"

# Numbers of the members of FileDescriptorProto and so on, of which the paths of comments consist (descriptor.proto).
MESSAGES, ENUMS, SERVICES = 4, 5, 6
FIELDS, NESTED_MESSAGES, NESTED_ENUMS = 2, 3, 4
METHODS, VALUES = 2, 2


@dataclass
class Documented:
    """A named thing with its comment, one paragraph."""

    name: str
    comment: str


@dataclass
class Field(Documented):
    """A field; `type_name` is the full name of a message or enum or empty, `entry` the key and value of a map."""

    proto: FieldDescriptorProto
    entry: DescriptorProto | None

    @property
    def rules(self) -> options_pb2.FieldRules:
        """What the schema says of it."""
        return self.proto.options.Extensions[options_pb2.field]

    @property
    def referred(self) -> list[str]:
        """Full names of the messages and enums that it holds."""
        parts = self.entry.field if self.entry is not None else [self.proto]
        return [part.type_name.removeprefix(".") for part in parts if part.type_name]


@dataclass
class Message(Documented):
    """A message; `full` is its full name."""

    full: str
    proto: DescriptorProto
    fields: list[Field]

    @property
    def kind(self) -> options_pb2.KindRules | None:
        """How it is served, if it is a kind."""
        options = self.proto.options
        return options.Extensions[options_pb2.kind] if options.HasExtension(options_pb2.kind) else None


@dataclass
class Enum(Documented):
    """An enum with its values and their numbers."""

    full: str
    values: list[tuple[Documented, int]]


@dataclass
class Service(Documented):
    """A service; each method with its descriptor."""

    proto: ServiceDescriptorProto
    methods: list[Documented]


@dataclass
class Package:
    """All files of one package, in the order of their names."""

    name: str
    comments: list[str] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    enums: list[Enum] = field(default_factory=list)

    @property
    def kinds(self) -> list[Message]:
        """The messages that are served as kinds."""
        return [message for message in self.messages if message.kind is not None]


def load(path: Path = DESCRIPTORS) -> dict[str, Package]:
    """Packages of protos/ by name. Raises OSError when the protos were not compiled."""
    files = FileDescriptorSet.FromString(path.read_bytes()).file
    return packages(sorted((file for file in files if file.name.startswith("protos/")), key=lambda file: file.name))


def packages(files: list[FileDescriptorProto]) -> dict[str, Package]:
    """The packages of these files."""
    found: dict[str, Package] = {}
    for file in files:
        package = found.setdefault(file.package, Package(file.package))
        comments = _Comments(file)
        if head := comments.of_package():
            package.comments.append(head)
        for at, service in enumerate(file.service):
            methods = [
                Documented(method.name, comments.of((SERVICES, at, METHODS, index)))
                for index, method in enumerate(service.method)
            ]
            package.services.append(Service(service.name, comments.of((SERVICES, at)), service, methods))
        for at, message in enumerate(file.message_type):
            _add_message(package, comments, message, f"{file.package}.", (MESSAGES, at))
        for at, enum in enumerate(file.enum_type):
            package.enums.append(_enum(comments, enum, f"{file.package}.", (ENUMS, at)))
    return found


class _Comments:
    def __init__(self, file: FileDescriptorProto) -> None:
        self._by_path = {tuple(location.path): location for location in file.source_code_info.location}

    def of(self, path: tuple[int, ...]) -> str:
        location = self._by_path.get(path)
        return _paragraph(location.leading_comments or location.trailing_comments) if location is not None else ""

    def of_package(self) -> str:
        """What stands above the package line (2 = package in FileDescriptorProto)."""
        return self.of((2,))


def _paragraph(text: str) -> str:
    return " ".join(text.split())


def _add_message(
    package: Package, comments: _Comments, proto: DescriptorProto, prefix: str, path: tuple[int, ...]
) -> None:
    full = prefix + proto.name
    entries = {f"{full}.{nested.name}": nested for nested in proto.nested_type if nested.options.map_entry}
    fields = [
        Field(member.name, comments.of((*path, FIELDS, at)), member, entries.get(member.type_name.removeprefix(".")))
        for at, member in enumerate(proto.field)
    ]
    package.messages.append(Message(full.removeprefix(f"{package.name}."), comments.of(path), full, proto, fields))
    for at, nested in enumerate(proto.nested_type):
        if not nested.options.map_entry:
            _add_message(package, comments, nested, f"{full}.", (*path, NESTED_MESSAGES, at))
    for at, enum in enumerate(proto.enum_type):
        package.enums.append(_enum(comments, enum, f"{full}.", (*path, NESTED_ENUMS, at)))


def _enum(comments: _Comments, proto: EnumDescriptorProto, prefix: str, path: tuple[int, ...]) -> Enum:
    values = [
        (Documented(value.name, comments.of((*path, VALUES, at))), value.number) for at, value in enumerate(proto.value)
    ]
    return Enum(proto.name, comments.of(path), prefix + proto.name, values)


def reachable(start: Message, by_name: dict[str, Message]) -> Iterator[Message]:
    """`start` and the messages of `by_name` that it is made of, each once, those of the first field first."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        message = waiting.pop()
        if message.full in seen:
            continue
        seen.add(message.full)
        yield message
        referred = [name for member in message.fields for name in member.referred if name in by_name]
        waiting.extend(by_name[name] for name in reversed(referred))
