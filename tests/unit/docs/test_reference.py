"""The generated pages are current and complete, and say what the protos and settings say."""

from __future__ import annotations

from typing import Literal

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from pydantic import Field

from ferrite.cli.main import COMMANDS, PROCESSES
from protos.api.v1 import options_pb2
from services.apimachinery.client.connect import ServerSettings
from services.common.settings import ServiceSettings
from tools import api_reference, settings_reference
from tools.proto_docs import load, packages


def test_flags_page_is_current() -> None:
    assert settings_reference.main(["--check"]) == 0, "run make docs and commit the result"


def test_api_pages_are_current() -> None:
    assert api_reference.main(["--check"]) == 0, "run make docs and commit the result"


@pytest.mark.parametrize("command", [" ".join(words) for words in PROCESSES])
def test_every_process_has_its_flags_listed(command: str) -> None:
    assert command in settings_reference.COMMANDS


@pytest.mark.parametrize("service", COMMANDS)
def test_every_service_has_its_flags_listed(service: str) -> None:
    assert any(command.split()[0] == service for command in settings_reference.COMMANDS)


def test_every_kind_has_its_place() -> None:
    packages_found = load()
    index = api_reference.Reference(packages_found, api_reference.served_by()).pages()["README.md"]
    missing = [kind.full for package in packages_found.values() for kind in package.kinds if kind.full not in index]
    assert missing == []


class Example(ServiceSettings):
    """One setting of every sort."""

    size: int = Field(3, ge=1, le=9, description="how big")
    mode: Literal["a", "b"] = Field("a", description="how")
    quiet: bool = Field(False, description="say | nothing")
    device: list[str] = Field([], description="which")
    label: dict[str, str] = Field(default_factory=dict, description="labels")
    name: str = Field(description="who")
    core: ServerSettings | None = Field(None, description="where")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        pytest.param("size", "| `--size` | `3` | how big (at least 1, at most 9) |", id="bounds"),
        pytest.param("mode", "| `--mode` | `a` | how (a, b) |", id="allowed values"),
        pytest.param("quiet", "| `--quiet`, `--no-quiet` | no | say \\| nothing |", id="yes or no, a bar escaped"),
        pytest.param("device", "| `--device` | none | which |", id="empty list"),
        pytest.param("label", "| `--label` | none | labels |", id="empty dictionary"),
        pytest.param("name", "| `--name` | required | who |", id="required"),
        pytest.param("core", "| [`--core.…`](#connections-to-api-servers) | none | where |", id="optional connection"),
    ],
)
def test_flag_row(name: str, row: str) -> None:
    assert str(settings_reference._row(name, Example.model_fields[name])) == row


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        pytest.param(options_pb2.FieldRules(required=True, immutable=True), "**Required.** Immutable.", id="flags"),
        pytest.param(options_pb2.FieldRules(default='"On"', values=["On", "Off"]), "Default `On`. One of `On`, `Off`."),
        pytest.param(options_pb2.FieldRules(default="{}"), "", id="an empty object is no news"),
        pytest.param(options_pb2.FieldRules(minimum=0, maximum=7), "At least 0. At most 7.", id="a minimum of zero"),
        pytest.param(options_pb2.FieldRules(min_items=1), "At least 1 items.", id="items"),
        pytest.param(
            options_pb2.FieldRules(list_map_key="ip", list_map_more_keys=["port"]),
            "Items are told apart by `ip`, `port`.",
            id="two keys",
        ),
    ],
)
def test_field_rules(rules: options_pb2.FieldRules, words: str) -> None:
    assert " ".join(api_reference._field_rules(rules)) == words


def test_page_of_a_kind_links_its_types() -> None:
    file = FileDescriptorProto(name="protos/x/v1/box.proto", package="x.v1")
    box, spec = file.message_type.add(name="Box"), file.message_type.add(name="BoxSpec")
    box.options.Extensions[options_pb2.kind].CopyFrom(options_pb2.KindRules(group="x.io", version="v1", plural="boxes"))
    box.field.add(name="spec", number=1, type=11, label=1, type_name=".x.v1.BoxSpec", json_name="spec")
    spec.field.add(name="how_big", number=1, type=5, label=1, json_name="howBig")
    file.source_code_info.location.add(path=[4, 1, 2, 0], leading_comments=" Size in\n metres.\n")

    pages = api_reference.Reference(packages([file]), served={}).pages()

    assert list(pages) == ["README.md", "x.io.md"]
    assert "not served yet" in pages["x.io.md"]
    assert "| `spec` | [BoxSpec](#x.v1.BoxSpec) |  |" in pages["x.io.md"]
    assert "| `howBig` | int32 | Size in metres. |" in pages["x.io.md"]
