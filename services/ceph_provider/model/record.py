"""The stored form of a volume: JSON with the keys of the original. What we don't know of a record is kept as it is."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_serializer
from pydantic.alias_generators import to_camel

SECOND: Final = 10**9
FIRST_TIME: Final = -62_135_596_800 * SECOND
"""Year 1: what the original writes for no time."""

LAST_TIME: Final = 253_402_300_800 * SECOND - 1
"""The end of year 9999."""

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


class VolumeState(StrEnum):
    """How far a volume is."""

    PENDING = "Pending"
    AVAILABLE = "Available"


def parse_time(text: str) -> int:
    """Unix nanoseconds of an RFC 3339 time. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time (RFC 3339)")
    seconds, fraction, zone = match.groups()
    return int(datetime.fromisoformat(seconds + zone).timestamp()) * SECOND + int((fraction or "").ljust(9, "0"))


def format_time(nanoseconds: int) -> str:
    """RFC 3339, UTC, without trailing zeros."""
    seconds, rest = divmod(nanoseconds, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
    return f"{text}.{rest:09d}".rstrip("0").rstrip(".") + "Z"


def _time(value: Any) -> Any:
    return parse_time(value) if isinstance(value, str) else value


def _no_null(value: Any) -> Any:
    """The original writes null for an empty map or list."""
    return {} if value is None else value


Time = Annotated[int, Field(ge=FIRST_TIME, le=LAST_TIME), BeforeValidator(_time), PlainSerializer(format_time)]
Strings = Annotated[dict[str, str], BeforeValidator(_no_null)]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")


class Metadata(_Part):
    """Identity and times (Unix nanoseconds)."""

    id: str
    annotations: Strings = {}
    labels: Strings = {}
    created_at: Time
    deleted_at: Time | None = None
    generation: int = 0
    resource_version: int = 0
    finalizers: Annotated[list[str], BeforeValidator(lambda value: value or [])] = []
    traceparent: str = ""

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: Any) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        for key in ("deletedAt", "finalizers", "traceparent"):
            if not document.get(key):
                document.pop(key, None)
        return document


class Encryption(_Part):
    """How the image is encrypted; the passphrase is sealed."""

    type: str
    encrypted_passphrase: str | None = None


class Spec(_Part):
    """What is wanted; `size` in bytes as requested, `limits` by RBD option."""

    size: int
    wwn: str
    limits: Annotated[dict[str, int], BeforeValidator(_no_null)] = {}
    image: str = ""
    image_architecture: str | None = None
    snapshot_ref: str | None = None
    encryption: Encryption | None = None


class Access(_Part):
    """How the image is reached. `user_key` is confidential."""

    monitors: str
    handle: str
    user: str
    user_key: str = Field(repr=False)


class Status(_Part):
    """What is; `size` in bytes as allocated."""

    state: VolumeState = VolumeState.PENDING
    encryption: str = ""
    access: Access | None = None
    size: int = 0


class Record(_Part):
    """A volume."""

    metadata: Metadata
    spec: Spec
    status: Status = Field(default_factory=Status)

    @property
    def id(self) -> str:
        return self.metadata.id

    @property
    def deleting(self) -> bool:
        """Whether its deletion was asked for."""
        return self.metadata.deleted_at is not None


def encode(record: Record) -> str:
    """The stored form: JSON in ASCII."""
    return json.dumps(record.model_dump(mode="json", by_alias=True), separators=(",", ":"))


def decode(text: str | bytes) -> Record:
    """Raises ValueError with the first wrong field; confidential values are not part of the text."""
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise ValueError(f"{field or 'record'}: {problem['msg']}") from None
