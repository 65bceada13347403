"""Keeps tests/vectors/stored_fields.json: the field numbers, types and JSON names under which objects are stored.

    python tools/snapshot_fields.py          appends the fields that are new in build/descriptors.pb

Objects outlive releases, so a field that has been recorded never changes. One that is no longer wanted leaves its
number and name `reserved` in the message; its record stays. Refuses, with exit code 1 and one line per field, what
would break stored objects. Run after `make protos`, commit the result with the .proto.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

from protos.api.v1 import options_pb2

ROOT: Final = Path(__file__).resolve().parent.parent
DESCRIPTORS: Final = ROOT / "build" / "descriptors.pb"
SNAPSHOT: Final = ROOT / "tests" / "vectors" / "stored_fields.json"

_NAMED_TYPES: Final = (FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_ENUM)
_SCALARS: Final = {number: name[5:].lower() for name, number in FieldDescriptorProto.Type.items()}


@dataclass(frozen=True)
class FieldFact:
    """What the bytes and the JSON of a field depend on; `type` as in .proto: "repeated string", "map<string,bytes>"."""

    number: int
    type: str
    json: str


@dataclass
class MessageFacts:
    """One message: its fields by name, what they refer to, and what is reserved."""

    fields: dict[str, FieldFact] = field(default_factory=dict)
    references: set[str] = field(default_factory=set)
    reserved_numbers: list[range] = field(default_factory=list)
    reserved_names: set[str] = field(default_factory=set)
    # The message is a kind that is kept in the store.
    stored_kind: bool = False

    def reserves(self, name: str, number: int) -> bool:
        """True when neither the name nor the number can be used again."""
        return name in self.reserved_names and any(number in numbers for numbers in self.reserved_numbers)


def read_messages(descriptors: FileDescriptorSet) -> dict[str, MessageFacts]:
    """All messages by full name; map entries are folded into the field that has them."""
    found: dict[str, MessageFacts] = {}
    for file in descriptors.file:
        prefix = f"{file.package}." if file.package else ""
        for message in file.message_type:
            found.update(_walk(message, prefix))
    return found


def stored_messages(messages: dict[str, MessageFacts]) -> dict[str, MessageFacts]:
    """The stored kinds and all that they are made of."""
    waiting = [name for name, facts in messages.items() if facts.stored_kind]
    stored: dict[str, MessageFacts] = {}
    while waiting:
        name = waiting.pop()
        if name not in stored and name in messages:
            stored[name] = messages[name]
            waiting.extend(messages[name].references)
    return dict(sorted(stored.items()))


def broken_fields(snapshot: dict[str, dict[str, FieldFact]], messages: dict[str, MessageFacts]) -> list[str]:
    """One line for each recorded field that stored objects would no longer be read by."""
    lines = []
    for name, fields in snapshot.items():
        facts = messages.get(name)
        if facts is None:
            lines.append(f"{name}: recorded, but the message is gone")
            continue
        for field_name, recorded in fields.items():
            present = facts.fields.get(field_name)
            if present is None and not facts.reserves(field_name, recorded.number):
                lines.append(f"{name}.{field_name}: gone; reserve number {recorded.number} and the name")
            elif present is not None and present != recorded:
                lines.append(f"{name}.{field_name}: recorded as {recorded}, is {present}")
    return lines


def new_fields(snapshot: dict[str, dict[str, FieldFact]], messages: dict[str, MessageFacts]) -> list[str]:
    """Full names of stored fields that are not recorded yet."""
    return [
        f"{name}.{field_name}"
        for name, facts in stored_messages(messages).items()
        for field_name in facts.fields
        if field_name not in snapshot.get(name, {})
    ]


def read_snapshot(path: Path = SNAPSHOT) -> dict[str, dict[str, FieldFact]]:
    """The recorded fields by message and name; empty when nothing has been recorded."""
    if not path.exists():
        return {}
    recorded: dict[str, dict[str, list[Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return {name: {f: FieldFact(*fact) for f, fact in fields.items()} for name, fields in recorded.items()}


def write_snapshot(snapshot: dict[str, dict[str, FieldFact]], path: Path = SNAPSHOT) -> None:
    """One field a line, ordered by message and number, so that a review shows what is new."""
    blocks = []
    for name, fields in sorted(snapshot.items()):
        rows = [
            f"  {json.dumps(field_name)}: {json.dumps([fact.number, fact.type, fact.json])}"
            for field_name, fact in sorted(fields.items(), key=lambda item: item[1].number)
        ]
        inside = "\n" + ",\n".join(rows) + "\n " if rows else ""
        blocks.append(f" {json.dumps(name)}: {{{inside}}}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")


def _walk(message: DescriptorProto, prefix: str) -> Iterator[tuple[str, MessageFacts]]:
    name = prefix + message.name
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    facts = MessageFacts(
        reserved_numbers=[range(reserved.start, reserved.end) for reserved in message.reserved_range],
        reserved_names=set(message.reserved_name),
    )
    if message.options.HasExtension(options_pb2.kind):
        facts.stored_kind = not message.options.Extensions[options_pb2.kind].ephemeral
    for proto in message.field:
        facts.fields[proto.name] = FieldFact(proto.number, _type_of(proto, entries), proto.json_name)
        entry = _entry_of(proto, entries)
        for part in entry.field if entry else [proto]:
            if part.type == FieldDescriptorProto.TYPE_MESSAGE:
                facts.references.add(part.type_name.removeprefix("."))
    yield name, facts
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from _walk(nested, name + ".")


def _entry_of(proto: FieldDescriptorProto, entries: dict[str, DescriptorProto]) -> DescriptorProto | None:
    if proto.type != FieldDescriptorProto.TYPE_MESSAGE:
        return None
    return entries.get(proto.type_name.rsplit(".", 1)[-1])


def _type_of(proto: FieldDescriptorProto, entries: dict[str, DescriptorProto]) -> str:
    entry = _entry_of(proto, entries)
    if entry is not None:
        key, value = entry.field
        return f"map<{_type_of(key, {})},{_type_of(value, {})}>"
    plain = proto.type_name.removeprefix(".") if proto.type in _NAMED_TYPES else _SCALARS[proto.type]
    return f"repeated {plain}" if proto.label == FieldDescriptorProto.LABEL_REPEATED else plain


def main() -> int:
    """Appends new fields to the snapshot; 1 when a recorded one has changed."""
    messages = read_messages(FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()))
    snapshot = read_snapshot()
    broken = broken_fields(snapshot, messages)
    if broken:
        print("\n".join(broken), file=sys.stderr)
        return 1
    added = len(new_fields(snapshot, messages))
    for name, facts in stored_messages(messages).items():
        snapshot[name] = {**facts.fields, **snapshot.get(name, {})}
    write_snapshot(snapshot)
    print(f"{added} fields added, {sum(map(len, snapshot.values()))} recorded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
