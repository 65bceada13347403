"""Writes docs/reference/: one page per API group and per gRPC package, from the comments and options of the protos.

python tools/api_reference.py          rewrites the pages (run `make protos` first)
python tools/api_reference.py --check  exit code 1 when the committed pages are not current
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from protos.api.v1 import options_pb2
from services.apimachinery.server.auth.reviews import Reviews
from services.core import kinds as core
from services.metalnet import kinds as metalnet
from services.net import kinds as net
from services.net.model.vni import DEFAULT_MAX, DEFAULT_MIN
from tools.proto_docs import Enum, Field, Message, Package, load, reachable

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
MADE: Final = "<!-- Made by tools/api_reference.py from protos/ (make docs). Do not edit. -->"

SHARED: Final = "shared-types"
GRPC: Final = "grpc-"
# Packages of types that kinds of several groups are made of.
SHARED_PACKAGES: Final = ("ferrite.common.", "k8s.io.apimachinery.")
# Kubernetes' own document format; nobody writes it by hand.
LEFT_OUT: Final = ("ferrite.openapi.",)
# Messages that every typed service has and docs/api.md describes once.
ENVELOPES: Final = ("List", "Event", "Write")

_SCALARS: Final = {number: name[5:].lower() for name, number in FieldDescriptorProto.Type.items()}


class Reference:
    """The pages made of some packages; `served` says by full name of a kind which API server serves it."""

    def __init__(self, packages: dict[str, Package], served: dict[str, str]) -> None:
        self._packages = {name: found for name, found in packages.items() if not name.startswith(LEFT_OUT)}
        self._served = served
        self._page_of: dict[str, str] = {}
        for package in self._packages.values():
            names = [*(message.full for message in package.messages), *(enum.full for enum in package.enums)]
            self._page_of |= dict.fromkeys(names, page_name(package))

    def pages(self) -> dict[str, str]:
        """Content by file name."""
        by_page: dict[str, list[Package]] = {}
        for package in self._packages.values():
            by_page.setdefault(page_name(package), []).append(package)
        texts = {f"{name}.md": self._page(name, found) for name, found in sorted(by_page.items())}
        return {"README.md": self._index(by_page), **texts}

    def _index(self, by_page: dict[str, list[Package]]) -> str:
        lines = ["# Reference", "", MADE, "", "- [Flags of every process](flags.md)", ""]
        lines += ["| group | kinds |", "|---|---|"]
        for name, found in sorted(by_page.items()):
            names = [f"[{message.name}]({name}.md#{message.full})" for package in found for message in package.kinds]
            if names:
                lines.append(f"| [{name}]({name}.md) | {', '.join(names)} |")
        lines += ["", f"[Types that several groups share]({SHARED}.md)", "", "| gRPC package | services |", "|---|---|"]
        for name, found in sorted(by_page.items()):
            services = [service.name for package in found if not package.kinds for service in package.services]
            if services or (name != SHARED and not any(package.kinds for package in found)):
                shown = name.removeprefix(GRPC)
                lines.append(f"| [{shown}]({name}.md) | {', '.join(services) or 'messages only'} |")
        return _text(lines)

    def _page(self, name: str, found: list[Package]) -> str:
        lines = [f"# {_title(name, found)}", "", MADE, ""]
        for package in found:
            body = self._group(name, package) if package.kinds else self._grpc(name, package)
            lines += body
        return _text(lines)

    def _group(self, page: str, package: Package) -> Iterator[str]:
        by_name = {message.full: message for message in package.messages}
        done: set[str] = set()
        for kind in package.kinds:
            yield from self._kind(kind, package)
            for message in reachable(kind, by_name):
                if message.full not in done:
                    done.add(message.full)
                    yield from self._message(page, message, heading=message is not kind)
        rest = [message for message in package.messages if message.full not in done and not _is_envelope(message)]
        for message in rest:
            yield from self._message(page, message)

    def _kind(self, kind: Message, package: Package) -> Iterator[str]:
        rules = kind.kind
        assert rules is not None
        yield from (_anchor(kind.full), f"## {kind.name}", "", kind.comment, "")
        resource = f"{rules.plural}.{rules.group}" if rules.group else rules.plural
        scope = "in a namespace" if rules.namespaced else "for the whole cluster"
        server = self._served.get(kind.full)
        yield f"- resource `{resource}`, {scope}" + (
            f", short names {', '.join(rules.short_names)}" if rules.short_names else ""
        )
        yield f"- served by the {server} API server" if server else "- **not served yet**: only its messages exist"
        if rules.ephemeral:
            yield "- a question: created, answered and never stored"
        if rules.columns:
            yield f"- columns: {', '.join(column.name for column in rules.columns)}"
        if rules.selectable_fields:
            yield f"- field selectors: {_names(rules.selectable_fields)}"
        for service in package.services:
            if any(method.output_type == f".{kind.full}" for method in service.proto.method):
                methods = ", ".join(method.name for method in service.methods)
                yield f"- gRPC service `{package.name}.{service.name}`: {methods}"
        yield ""

    def _grpc(self, page: str, package: Package) -> Iterator[str]:
        yield from (f"Package `{package.name}`." + "".join(f" {text}" for text in package.comments), "")
        for service in package.services:
            yield from (
                f"## {service.name}",
                "",
                service.comment,
                "",
                "| method | request | answer | |",
                "|---|---|---|---|",
            )
            for method, documented in zip(service.proto.method, service.methods, strict=True):
                request = self._link(page, method.input_type, stream=method.client_streaming)
                answer = self._link(page, method.output_type, stream=method.server_streaming)
                yield f"| `{method.name}` | {request} | {answer} | {_cell(documented.comment)} |"
            yield ""
        for message in package.messages:
            yield from self._message(page, message)
        for enum in package.enums:
            yield from _enum(enum)

    def _message(self, page: str, message: Message, *, heading: bool = True) -> Iterator[str]:
        if heading:
            yield from (_anchor(message.full), f"### {message.name}", "")
            if message.comment:
                yield from (message.comment, "")
        yield from _message_rules(message.proto.options.Extensions[options_pb2.message])
        if not message.fields:
            yield from ("No fields.", "")
            return
        yield from ("| field | type | meaning |", "|---|---|---|")
        for member in message.fields:
            words = [_cell(member.comment), *_field_rules(member.rules)]
            yield f"| `{member.proto.json_name}` | {self._type(page, member)} | {' '.join(words)} |"
        yield ""

    def _type(self, page: str, member: Field) -> str:
        if member.entry is not None:
            key, value = member.entry.field
            return f"map of {self._single(page, key)} to {self._single(page, value)}"
        single = "quantity" if member.rules.quantity else self._single(page, member.proto)
        return f"list of {single}" if member.proto.label == FieldDescriptorProto.LABEL_REPEATED else single

    def _single(self, page: str, proto: FieldDescriptorProto) -> str:
        return self._link(page, proto.type_name) if proto.type_name else _SCALARS[proto.type]

    def _link(self, page: str, type_name: str, *, stream: bool = False) -> str:
        full = type_name.removeprefix(".")
        target = self._page_of.get(full)
        short = full.rpartition(".")[2]
        shown = f"[{short}]({'' if target == page else f'{target}.md'}#{full})" if target else short
        return f"stream of {shown}" if stream else shown


def page_name(package: Package) -> str:
    """Name of the page that a package's types are described on."""
    if package.kinds:
        rules = package.kinds[0].kind
        assert rules is not None
        return rules.group or "kubernetes-core"
    return SHARED if package.name.startswith(SHARED_PACKAGES) else GRPC + package.name


def served_by() -> dict[str, str]:
    """Which API server serves a kind, by the full name of its message."""
    servers = {
        "metalnet": metalnet.definitions(),
        "net": net.definitions(DEFAULT_MIN, DEFAULT_MAX),
        "core": [*core.definitions(), *Reviews().definitions()],
    }
    names: dict[str, list[str]] = {}
    for server, definitions in reversed(servers.items()):
        for definition in definitions:
            names.setdefault(definition.message.DESCRIPTOR.full_name, []).append(server)
    return {name: " and the ".join(found) for name, found in names.items()}


def _title(name: str, found: list[Package]) -> str:
    rules = found[0].kinds[0].kind if found[0].kinds else None
    if rules is None:
        return "Types that several groups share" if name == SHARED else f"gRPC: {found[0].name}"
    return f"{rules.group}/{rules.version}" if rules.group else f"Kubernetes core/{rules.version}"


def _is_envelope(message: Message) -> bool:
    return message.name.endswith(ENVELOPES)


def _message_rules(rules: options_pb2.MessageRules) -> Iterator[str]:
    for groups, word in (
        (rules.exactly_one_of, "Exactly one of"),
        (rules.at_most_one_of, "At most one of"),
        (rules.at_least_one_of, "At least one of"),
    ):
        for group in groups:
            yield from (f"{word} {_names(group.names)}.", "")


def _field_rules(rules: options_pb2.FieldRules) -> Iterator[str]:
    """What the schema enforces, a sentence each."""
    if rules.required:
        yield "**Required.**"
    if rules.immutable:
        yield "Immutable."
    if rules.set_once:
        yield "Can be set once."
    if rules.default and rules.default not in ("{}", "[]"):
        yield f"Default {json.loads(rules.default)!r}.".replace("'", "`")
    if rules.values:
        yield f"One of {_names(rules.values)}."
    if rules.format:
        yield f"Format {rules.format}."
    yield from _numbers(rules)
    if rules.list_map_key:
        yield f"Items are told apart by {_names((rules.list_map_key, *rules.list_map_more_keys))}."
    if rules.required_keys:
        yield f"Must contain {_names(rules.required_keys)}."
    if rules.allowed_keys:
        yield f"May contain only {_names(rules.allowed_keys)}."
    if rules.inline:
        yield "Its members stand in the object itself."


def _numbers(rules: options_pb2.FieldRules) -> Iterator[str]:
    if rules.HasField("minimum"):
        yield f"At least {rules.minimum}."
    if rules.HasField("maximum"):
        yield f"At most {rules.maximum}."
    if rules.HasField("min_items"):
        yield f"At least {rules.min_items} items."
    if rules.HasField("max_items"):
        yield f"At most {rules.max_items} items."
    if rules.power_of_two:
        yield "A power of two."
    if rules.positive:
        yield "Greater than zero."
    if rules.non_negative:
        yield "Not negative."


def _enum(enum: Enum) -> Iterator[str]:
    yield from (_anchor(enum.full), f"### {enum.name}", "", enum.comment, "", "| value | number | |", "|---|---|---|")
    for value, number in enum.values:
        yield f"| `{value.name}` | {number} | {_cell(value.comment)} |"
    yield ""


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _anchor(name: str) -> str:
    return f'<a id="{name}"></a>\n'


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


def stale(wanted: dict[str, str]) -> list[str]:
    """Names of the pages in the folder that are missing, outdated or superfluous."""
    present = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md") if path.name != "flags.md"}
    return sorted(name for name in present.keys() | wanted.keys() if present.get(name) != wanted.get(name))


def main(arguments: list[str]) -> int:
    """Writes or checks the pages; the exit code."""
    wanted = Reference(load(), served_by()).pages()
    old = stale(wanted)
    if "--check" in arguments:
        for name in old:
            print(f"docs/reference/{name} is not current: run make docs", file=sys.stderr)
        return 1 if old else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in old:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
