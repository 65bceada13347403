"""The causes of a 422 in Kubernetes' words: one function per cause type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from services.apimachinery.errors import Cause, Invalid
from services.apimachinery.kinds import Kind

IMMUTABLE = "field is immutable"


def required(path: str, detail: str = "") -> Cause:
    """A mandatory field is missing or empty."""
    return Cause(path, "FieldValueRequired", f"Required value: {detail}" if detail else "Required value")


def invalid_value(path: str, value: Any, detail: str) -> Cause:
    """A value breaks a rule."""
    return Cause(path, "FieldValueInvalid", f"Invalid value: {_shown(value)}: {detail}")


def not_supported(path: str, value: Any, allowed: Iterable[str]) -> Cause:
    """A value is not one of a fixed set."""
    listed = ", ".join(_shown(choice) for choice in sorted(allowed))
    return Cause(path, "FieldValueNotSupported", f"Unsupported value: {_shown(value)}: supported values: {listed}")


def duplicate(path: str, value: Any) -> Cause:
    """A value stands where it must be unique."""
    return Cause(path, "FieldValueDuplicate", f"Duplicate value: {_shown(value)}")


def forbidden(path: str, detail: str) -> Cause:
    """A field may not be set, or not be set like this, here."""
    return Cause(path, "FieldValueForbidden", f"Forbidden: {detail}")


def too_many(path: str, count: int, most: int) -> Cause:
    """A list is longer than allowed."""
    return Cause(path, "FieldValueTooMany", f"Too many: {count}: must have at most {most} items")


def too_long(path: str, most: int) -> Cause:
    """A value is longer than allowed, in bytes."""
    return Cause(path, "FieldValueTooLong", f"Too long: may not be more than {most} bytes")


def invalid(kind: Kind[Any], name: str, causes: Sequence[Cause]) -> Invalid:
    """The refusal that carries the causes, with Kubernetes' summary as message."""
    each = [f"{cause.field}: {cause.message}" for cause in causes]
    summary = each[0] if len(each) == 1 else f"[{', '.join(each)}]"
    subject = f"{kind.name}.{kind.group}" if kind.group else kind.name
    message = f'{subject} "{name}" is invalid: {summary}'
    return Invalid(message, causes, kind=kind.name, group=kind.group, name=name)


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode()
