"""Struct layouts and enums of a BPF object, read from its BTF: the C headers stay the only definition.

Format: Linux Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

MAGIC: Final = 0xEB9F

INT, POINTER, ARRAY, STRUCT, UNION, ENUM = 1, 2, 3, 4, 5, 6
TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, ENUM64 = (
    8,
    9,
    10,
    11,
    13,
    14,
    15,
    16,
    17,
    19,
)

# Bytes behind the common header of a type: fixed part, and per member.
_EXTRA: Final = {
    INT: (4, 0),
    ARRAY: (12, 0),
    STRUCT: (0, 12),
    UNION: (0, 12),
    ENUM: (0, 8),
    FUNC_PROTO: (0, 8),
    VAR: (4, 0),
    DATASEC: (0, 12),
    DECL_TAG: (4, 0),
    ENUM64: (0, 12),
}
_SIZED: Final = {INT, STRUCT, UNION, ENUM, ENUM64, FLOAT, DATASEC}


class BadBtf(ValueError):
    """The bytes are no BTF, or lack a type that is asked for."""


@dataclass(frozen=True)
class Member:
    """A field of a struct, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Layout:
    """A C struct: integers are little-endian as the host's, byte fields are passed as they are."""

    name: str
    size: int
    members: dict[str, Member]

    def pack(self, **values: int | bytes) -> bytes:
        """The struct, fields not given zero. Raises KeyError: unknown field; ValueError: too long."""
        return self.changed(bytes(self.size), **values)

    def changed(self, raw: bytes, **values: int | bytes) -> bytes:
        """A packed struct with other values in some fields. Raises as `pack`."""
        out = bytearray(raw)
        for name, value in values.items():
            member = self.members[name]
            field_raw = value.to_bytes(member.size, "little") if isinstance(value, int) else value
            if len(field_raw) > member.size:
                raise ValueError(f"{self.name}.{name} has {member.size} bytes, not {len(field_raw)}")
            out[member.offset : member.offset + len(field_raw)] = field_raw
        return bytes(out)

    def number(self, raw: bytes, name: str) -> int:
        """An integer field of a packed struct."""
        return int.from_bytes(self.bytes(raw, name), "little")

    def bytes(self, raw: bytes, name: str) -> bytes:
        """A field of a packed struct as bytes."""
        member = self.members[name]
        return raw[member.offset : member.offset + member.size]


@dataclass
class _Type:
    name: str
    kind: int
    size_or_type: int
    members: list[tuple[str, int, int]] = field(default_factory=list)  # name, type or value, bit offset
    array: tuple[int, int] = (0, 0)  # element type, count


class Btf:
    """The types of one object."""

    def __init__(self, raw: bytes) -> None:
        """Raises BadBtf."""
        if len(raw) < 24 or struct.unpack_from("<H", raw)[0] != MAGIC:
            raise BadBtf("not BTF of a little-endian object")
        header, type_at, type_length, text_at, text_length = struct.unpack_from("<5I", raw, 4)
        self._types = [_Type("void", 0, 0)]
        text = raw[header + text_at : header + text_at + text_length]
        self._read(raw[header + type_at : header + type_at + type_length], text)

    def layout(self, name: str) -> Layout:
        """The struct called `name`. Raises BadBtf."""
        found = self._named(name, STRUCT)
        members = {member: Member(bits // 8, self._size(type_id)) for member, type_id, bits in found.members if member}
        return Layout(name, found.size_or_type, members)

    def enum(self, name: str, prefix: str) -> dict[str, int]:
        """The values of an enum by name without `prefix`, in lower case. Raises BadBtf."""
        values = self._named(name, ENUM).members
        return {member.removeprefix(prefix).lower(): value for member, value, _ in values}

    def _named(self, name: str, kind: int) -> _Type:
        for found in self._types:
            if found.name == name and found.kind == kind:
                return found
        raise BadBtf(f"no {'struct' if kind == STRUCT else 'enum'} {name}")

    def _size(self, type_id: int) -> int:
        found = self._types[type_id]
        if found.kind in _SIZED:
            return found.size_or_type
        if found.kind == ARRAY:
            return self._size(found.array[0]) * found.array[1]
        if found.kind == POINTER:
            return 8
        return self._size(found.size_or_type)

    def _read(self, raw: bytes, text: bytes) -> None:
        def word(at: int) -> str:
            return text[at : text.index(b"\0", at)].decode()

        at = 0
        while at < len(raw):
            name, info, size_or_type = struct.unpack_from("<3I", raw, at)
            kind, count = (info >> 24) & 0x1F, info & 0xFFFF
            found = _Type(word(name), kind, size_or_type)
            at += 12
            fixed, each = _EXTRA.get(kind, (0, 0))
            if kind == ARRAY:
                element, _, length = struct.unpack_from("<3I", raw, at)
                found.array = (element, length)
            elif kind in (STRUCT, UNION):
                for index in range(count):
                    member, type_id, bits = struct.unpack_from("<3I", raw, at + 12 * index)
                    found.members.append((word(member), type_id, bits & 0xFFFFFF if info >> 31 else bits))
            elif kind == ENUM:
                for index in range(count):
                    member, value = struct.unpack_from("<Ii", raw, at + 8 * index)
                    found.members.append((word(member), value, 0))
            at += fixed + each * count
            self._types.append(found)
