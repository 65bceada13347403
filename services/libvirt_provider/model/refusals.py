"""Why a call is refused. `code` is the gRPC status name; the text names the field and the rule."""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """The base of all."""

    code: ClassVar[str] = "INTERNAL"


class Invalid(Refusal):
    """The request breaks a rule that no retry can heal."""

    code = "INVALID_ARGUMENT"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field


class NotFound(Refusal):
    """There is no such machine, volume or network interface."""

    code = "NOT_FOUND"


class AlreadyExists(Refusal):
    """The machine has a volume or network interface of that name."""

    code = "ALREADY_EXISTS"


class NotNow(Refusal):
    """The present state forbids it; a later try may succeed."""

    code = "FAILED_PRECONDITION"


class DiskFull(Refusal):
    """The state directory takes no more bytes; nothing was stored. A later try succeeds once there is room."""

    code = "RESOURCE_EXHAUSTED"
