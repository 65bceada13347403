"""What an API server answers when it refuses, and what clients raise.

ApiError                      any refusal: HTTP code, Kubernetes reason, message, causes
├── BadRequest      400       the request itself makes no sense
├── Unauthorized    401       who are you
├── Forbidden       403       you may not
├── NotFound        404       no such object, kind or namespace
├── AlreadyExists   409       the name is taken
├── Conflict        409       the object changed since you read it
├── Gone            410       that version has been compacted: list again
├── UnsupportedMediaType 415  the body's type is not understood
├── Invalid         422       the object breaks a rule; causes name fields
├── TooManyRequests 429       try later
├── InternalError   500       our fault
├── Unavailable     503       the server, or its store, can't be reached
└── Timeout         504       no answer within the deadline
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import grpc


@dataclass(frozen=True)
class Cause:
    """One broken rule: which field (JSON path), which rule (`FieldValueRequired`, ...), in words."""

    field: str
    reason: str
    message: str


class ApiError(Exception):
    """A refusal; subclasses fix the code, the reason and the gRPC status."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"
    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL

    def __init__(self, message: str, causes: Sequence[Cause] = (), *, kind: str = "", group: str = "", name: str = ""):
        super().__init__(message)
        self.message = message
        self.causes = tuple(causes)
        self.kind, self.group, self.name = kind, group, name


class BadRequest(ApiError):
    code, reason, status = 400, "BadRequest", grpc.StatusCode.INVALID_ARGUMENT


class Unauthorized(ApiError):
    code, reason, status = 401, "Unauthorized", grpc.StatusCode.UNAUTHENTICATED


class Forbidden(ApiError):
    code, reason, status = 403, "Forbidden", grpc.StatusCode.PERMISSION_DENIED


class NotFound(ApiError):
    code, reason, status = 404, "NotFound", grpc.StatusCode.NOT_FOUND


class MethodNotAllowed(ApiError):
    code, reason, status = 405, "MethodNotAllowed", grpc.StatusCode.UNIMPLEMENTED


class NotAcceptable(ApiError):
    code, reason, status = 406, "NotAcceptable", grpc.StatusCode.INVALID_ARGUMENT


class AlreadyExists(ApiError):
    code, reason, status = 409, "AlreadyExists", grpc.StatusCode.ALREADY_EXISTS


class Conflict(ApiError):
    code, reason, status = 409, "Conflict", grpc.StatusCode.ABORTED


class Gone(ApiError):
    code, reason, status = 410, "Expired", grpc.StatusCode.OUT_OF_RANGE


class UnsupportedMediaType(ApiError):
    code, reason, status = 415, "UnsupportedMediaType", grpc.StatusCode.INVALID_ARGUMENT


class Invalid(ApiError):
    code, reason, status = 422, "Invalid", grpc.StatusCode.INVALID_ARGUMENT


class TooManyRequests(ApiError):
    code, reason, status = 429, "TooManyRequests", grpc.StatusCode.RESOURCE_EXHAUSTED


class InternalError(ApiError):
    pass


class Unavailable(ApiError):
    code, reason, status = 503, "ServiceUnavailable", grpc.StatusCode.UNAVAILABLE


class Timeout(ApiError):
    code, reason, status = 504, "Timeout", grpc.StatusCode.DEADLINE_EXCEEDED
