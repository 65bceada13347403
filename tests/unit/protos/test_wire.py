"""The wire: what other programs send, and what old releases stored, must stay readable.

tests/vectors/wire/*.json list messages, field numbers, types, enum values and methods of the protocols that others
speak too; each file says where it comes from. tests/vectors/stored_fields.json is kept by tools/snapshot_fields.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

from tools.snapshot_fields import FieldFact, MessageFacts, broken_fields, new_fields, read_messages, read_snapshot

ROOT: Final = Path(__file__).resolve().parents[3]
SET: Final = FileDescriptorSet.FromString((ROOT / "build" / "descriptors.pb").read_bytes())
MESSAGES: Final = read_messages(SET)
CONTRACTS: Final = {path.stem: json.loads(path.read_text()) for path in (ROOT / "tests/vectors/wire").glob("*.json")}


def enums_of(descriptors: FileDescriptorSet) -> dict[str, dict[str, int]]:
    """All enums by full name."""
    found: dict[str, dict[str, int]] = {}

    def walk(message: DescriptorProto, prefix: str) -> None:
        for enum in message.enum_type:
            found[f"{prefix}{message.name}.{enum.name}"] = {value.name: value.number for value in enum.value}
        for nested in message.nested_type:
            walk(nested, f"{prefix}{message.name}.")

    for file in descriptors.file:
        prefix = f"{file.package}." if file.package else ""
        for enum in file.enum_type:
            found[prefix + enum.name] = {value.name: value.number for value in enum.value}
        for message in file.message_type:
            walk(message, prefix)
    return found


def methods_of(descriptors: FileDescriptorSet) -> dict[str, dict[str, list[str]]]:
    """Request and answer type of each method, by full name of the service."""
    return {
        f"{file.package}.{service.name}": {
            method.name: [
                ("stream " if method.client_streaming else "") + method.input_type.removeprefix("."),
                ("stream " if method.server_streaming else "") + method.output_type.removeprefix("."),
            ]
            for method in service.method
        }
        for file in descriptors.file
        for service in file.service
    }


ENUMS: Final = enums_of(SET)
METHODS: Final = methods_of(SET)


def entries(part: str) -> list[Any]:
    """One test case for each name in that part of all contracts."""
    return [
        pytest.param(name, expected, id=f"{contract}:{name}")
        for contract, parts in sorted(CONTRACTS.items())
        for name, expected in parts[part].items()
    ]


def test_all_contracts_are_there() -> None:
    assert set(CONTRACTS) == {"dpservice", "iri-bucket", "iri-machine", "iri-volume", "kubernetes", "metalbond"}


@pytest.mark.parametrize(("name", "expected"), entries("messages"))
def test_message_keeps_numbers_and_types(name: str, expected: dict[str, list[Any]]) -> None:
    facts = MESSAGES[name]
    # A contract that spells names as in JSON (Kubernetes') is compared by JSON name.
    ours = {f.json: (f.number, f.type) for f in facts.fields.values()}
    ours |= {field_name: (f.number, f.type) for field_name, f in facts.fields.items()}
    assert {field_name: ours.get(field_name) for field_name in expected} == {
        field_name: tuple(fact) for field_name, fact in expected.items()
    }


@pytest.mark.parametrize("name", CONTRACTS["kubernetes"]["messages"])
def test_kubernetes_message_has_only_kubernetes_fields(name: str) -> None:
    # Kubernetes may use any free number tomorrow: additions of ours belong into kinds of our own.
    assert {f.json for f in MESSAGES[name].fields.values()} == set(CONTRACTS["kubernetes"]["messages"][name])


@pytest.mark.parametrize(("name", "expected"), entries("enums"))
def test_enum_keeps_its_values(name: str, expected: dict[str, int]) -> None:
    assert expected.items() <= ENUMS[name].items()


@pytest.mark.parametrize(("name", "expected"), entries("services"))
def test_service_keeps_its_methods(name: str, expected: dict[str, list[str]]) -> None:
    assert expected.items() <= METHODS[name].items()


def test_stored_fields_keep_numbers_types_and_names() -> None:
    assert broken_fields(read_snapshot(), MESSAGES) == []


def test_every_stored_field_is_recorded() -> None:
    assert new_fields(read_snapshot(), MESSAGES) == [], "run tools/snapshot_fields.py and commit the result"


RECORDED: Final = {"a.Machine": {"image": FieldFact(3, "string", "image")}}
RESERVED: Final = MessageFacts(reserved_numbers=[range(3, 4)], reserved_names={"image"})
NUMBER_ONLY: Final = MessageFacts(reserved_numbers=[range(3, 4)])


@pytest.mark.parametrize(
    ("present", "count"),
    [
        pytest.param(MessageFacts({"image": FieldFact(3, "string", "image")}), 0, id="the same"),
        pytest.param(MessageFacts({"image": FieldFact(4, "string", "image")}), 1, id="renumbered"),
        pytest.param(MessageFacts({"image": FieldFact(3, "bytes", "image")}), 1, id="retyped"),
        pytest.param(MessageFacts({"image": FieldFact(3, "repeated string", "image")}), 1, id="made a list"),
        pytest.param(MessageFacts({"image": FieldFact(3, "string", "imageRef")}), 1, id="another JSON name"),
        pytest.param(MessageFacts({"picture": FieldFact(3, "string", "picture")}), 1, id="renamed"),
        pytest.param(RESERVED, 0, id="removed, number and name reserved"),
        pytest.param(NUMBER_ONLY, 1, id="removed, only the number reserved"),
        pytest.param(MessageFacts(), 1, id="removed"),
        pytest.param(None, 1, id="message removed"),
    ],
)
def test_a_change_that_stored_objects_would_not_survive_is_found(present: MessageFacts | None, count: int) -> None:
    messages = {"a.Machine": present} if present is not None else {}
    assert len(broken_fields(RECORDED, messages)) == count


def test_reviews_are_not_stored() -> None:
    assert not any("Review" in name for name in read_snapshot())


def test_map_and_list_types_are_told_apart() -> None:
    text = FieldDescriptorProto.TYPE_STRING
    entry = DescriptorProto(name="LabelsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=text)
    entry.field.add(name="value", number=2, type=FieldDescriptorProto.TYPE_BYTES)
    descriptors = FileDescriptorSet()
    message = descriptors.file.add(package="a").message_type.add(name="M", nested_type=[entry])
    repeated = FieldDescriptorProto.LABEL_REPEATED
    message.field.add(
        name="labels", number=1, label=repeated, type=FieldDescriptorProto.TYPE_MESSAGE, type_name=".a.M.LabelsEntry"
    )
    message.field.add(name="names", number=2, label=repeated, type=text)
    fields = read_messages(descriptors)["a.M"].fields
    assert {name: fact.type for name, fact in fields.items()} == {
        "labels": "map<string,bytes>",
        "names": "repeated string",
    }
