"""The schema's own rules: everything is described, kinds have the same shape, and options name what exists.

Read from build/descriptors.pb, which `make protos` writes with comments.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from protos.api.v1 import options_pb2

ROOT: Final = Path(__file__).resolve().parents[3]
SET: Final = FileDescriptorSet.FromString((ROOT / "build" / "descriptors.pb").read_bytes())
FILES: Final = {file.name: file for file in SET.file if file.name.startswith("protos/")}

READ_VERBS: Final = {"Get", "List", "Watch"}
WRITE_VERBS: Final = {"Create", "Update", "Patch", "Delete", "DeleteCollection"}
FORMATS: Final = {
    "",
    "ip",
    "cidr",
    "dns-label",
    "dns-subdomain",
    "ip-family",
    "uuid",
    "label-value",
    "device",
    "link",
    "labels",
    "label-selector",
}


def messages_of(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    """All messages by full name with a leading dot, as fields refer to them."""

    def below(prefix: str, messages: list[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
        for message in messages:
            name = f"{prefix}.{message.name}"
            yield name, message
            yield from below(name, list(message.nested_type))

    yield from below(f".{file.package}" if file.package else "", list(file.message_type))


MESSAGES: Final = {name: message for file in SET.file for name, message in messages_of(file)}
OURS: Final = {
    name: message for file in FILES.values() for name, message in messages_of(file) if not message.options.map_entry
}
KINDS: Final = {
    name: (FILES[path], message)
    for path, file in FILES.items()
    for name, message in messages_of(file)
    if message.options.HasExtension(options_pb2.kind)
}
FIELDS: Final = {f"{name}.{field.name}": field for name, message in OURS.items() for field in message.field}
RULED: Final = {name: field for name, field in FIELDS.items() if field.options.HasExtension(options_pb2.field)}


def json_names(message: DescriptorProto) -> set[str]:
    return {field.json_name for field in message.field}


def target(field: FieldDescriptorProto) -> DescriptorProto | None:
    """The message that a field holds; None for scalars and maps."""
    message = MESSAGES.get(field.type_name)
    return None if message is None or message.options.map_entry else message


def leads_somewhere(message: DescriptorProto, path: str) -> bool:
    """True when a JSON path can be followed through the fields of a message; a map takes any key."""
    name, _, rest = path.replace("[*]", "").lstrip(".").partition(".")
    for field in message.field:
        if field.json_name == name:
            below = MESSAGES.get(field.type_name)
            if not rest:
                return True
            return below is not None and (below.options.map_entry or leads_somewhere(below, rest))
    return False


def described(file: FileDescriptorProto) -> set[tuple[int, ...]]:
    return {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}


def places(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Source paths (numbers as in descriptor.proto) and names of all that needs a comment."""

    def in_message(path: tuple[int, ...], message: DescriptorProto, name: str) -> Iterator[tuple[tuple[int, ...], str]]:
        if message.options.map_entry:
            return
        yield path, name
        for i, field in enumerate(message.field):
            yield (*path, 2, i), f"{name}.{field.name}"
        for i, nested in enumerate(message.nested_type):
            yield from in_message((*path, 3, i), nested, f"{name}.{nested.name}")
        for i, enum in enumerate(message.enum_type):
            yield (*path, 4, i), f"{name}.{enum.name}"
            for j, value in enumerate(enum.value):
                yield (*path, 4, i, 2, j), f"{name}.{enum.name}.{value.name}"

    for i, message in enumerate(file.message_type):
        yield from in_message((4, i), message, message.name)
    for i, enum in enumerate(file.enum_type):
        yield (5, i), enum.name
        for j, value in enumerate(enum.value):
            yield (5, i, 2, j), f"{enum.name}.{value.name}"
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        for j, method in enumerate(service.method):
            yield (6, i, 2, j), f"{service.name}.{method.name}"
    for i, extension in enumerate(file.extension):
        yield (7, i), extension.name


def test_every_source_is_compiled() -> None:
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto")}
    assert sources == set(FILES), "run `make protos`"


@pytest.mark.parametrize("path", sorted(FILES))
def test_everything_has_a_comment(path: str) -> None:
    commented = described(FILES[path])
    assert [name for place, name in places(FILES[path]) if place not in commented] == []


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_kind_has_its_messages(name: str) -> None:
    file, message = KINDS[name]
    rules = message.options.Extensions[options_pb2.kind]
    suffixes = {"Write"} if rules.ephemeral else {"List", "Event", "Write"}
    present = {other.name for other in file.message_type}
    assert {message.name + suffix for suffix in suffixes} <= present
    assert rules.version
    assert rules.plural == rules.plural.lower()
    assert "status" in json_names(message) or not rules.status
    assert (message.field[0].name, message.field[0].number) == ("metadata", 1)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_kind_has_its_service(name: str) -> None:
    file, message = KINDS[name]
    rules = message.options.Extensions[options_pb2.kind]
    wanted = {"Create"} if rules.ephemeral else READ_VERBS | WRITE_VERBS | ({"UpdateStatus"} if rules.status else set())
    write = f"{name}Write"
    services = [s for s in file.service if any(m.name == "Create" and m.input_type == write for m in s.method)]
    assert len(services) == 1
    methods = {method.name: method for method in services[0].method}
    assert wanted <= set(methods)
    for verb, answer in {
        "Get": name,
        "List": f"{name}List",
        "Watch": f"{name}Event",
        "Create": name,
        "Update": name,
        "UpdateStatus": name,
        "Patch": name,
        "Delete": name,
        "DeleteCollection": f"{name}List",
    }.items():
        if verb in wanted:
            assert methods[verb].output_type == answer
            assert methods[verb].server_streaming == (verb == "Watch")


@pytest.mark.parametrize("name", sorted(KINDS))
def test_columns_and_selectors_lead_somewhere(name: str) -> None:
    message = KINDS[name][1]
    rules = message.options.Extensions[options_pb2.kind]
    paths = [column.path for column in rules.columns if not column.renderer] + list(rules.selectable_fields)
    assert [path for path in paths if not leads_somewhere(message, path)] == []


def test_served_names_are_unique() -> None:
    rules = [message.options.Extensions[options_pb2.kind] for _, message in KINDS.values()]
    served = [(rule.group, rule.version, rule.plural) for rule in rules]
    assert len(served) == len(set(served))


@pytest.mark.parametrize("name", sorted(n for n, m in OURS.items() if m.options.HasExtension(options_pb2.message)))
def test_message_rules_name_members(name: str) -> None:
    rules = OURS[name].options.Extensions[options_pb2.message]
    for group in (*rules.exactly_one_of, *rules.at_most_one_of, *rules.at_least_one_of):
        assert len(group.names) > 1
        assert set(group.names) <= json_names(OURS[name])


@pytest.mark.parametrize("name", sorted(RULED))
def test_field_rules_fit_the_field(name: str) -> None:
    field = RULED[name]
    rules = field.options.Extensions[options_pb2.field]
    message = target(field)
    assert rules.format in FORMATS
    members = [*rules.allowed_members, *rules.list_map_more_keys, *filter(None, [rules.list_map_key])]
    assert not members or (message is not None and set(members) <= json_names(message))
    assert not rules.template or message is not None
    if rules.default:
        default = json.loads(rules.default)
        assert not rules.values or default in rules.values
        assert isinstance(default, dict) == (message is not None)
    if rules.quantity:
        entry = MESSAGES.get(field.type_name)
        kept = entry.field[1] if entry is not None and entry.options.map_entry else field
        assert kept.type == FieldDescriptorProto.TYPE_STRING or kept.type_name.endswith(".Quantity")
