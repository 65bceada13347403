"""Protobuf pieces written by hand, so that stored bytes go into answers without being parsed."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """A varint (protobuf encoding, Base 128 Varints)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def number_field(number: int, value: int) -> bytes:
    """A varint field."""
    return varint(number << 3) + varint(value)
