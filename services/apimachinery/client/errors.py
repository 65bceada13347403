"""Refusals on the wire: `ApiError` to and from a gRPC status, and from a Kubernetes Status.

Over gRPC the status code and message are what a stranger sees; the details make the refusal whole again:
`google.rpc.ErrorInfo` (reason = the Kubernetes reason, domain = API group, metadata `kind` and `name`) and, if there
are causes, `google.rpc.BadRequest` (a violation per cause). Servers use `to_grpc_status`, clients `from_grpc_error`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.apimachinery import errors
from services.apimachinery.errors import ApiError, Cause


def _all_errors() -> list[type[ApiError]]:
    return [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, ApiError)]


_BY_REASON: Final = {cls.reason: cls for cls in _all_errors() if cls is not ApiError}
_BY_REASON["Gone"] = errors.Gone  # older servers answer Gone where newer ones say Expired
_BY_CODE: Final[dict[int, type[ApiError]]] = {
    **{cls.code: cls for cls in _all_errors() if cls is not ApiError},
    409: errors.Conflict,
    502: errors.Unavailable,
    504: errors.Timeout,
}
_BY_STATUS: Final[dict[grpc.StatusCode, type[ApiError]]] = {
    **{cls.status: cls for cls in _all_errors() if cls is not ApiError},
    grpc.StatusCode.INVALID_ARGUMENT: errors.BadRequest,
    # What gRPC itself answers for a method or service that the server does not have.
    grpc.StatusCode.UNIMPLEMENTED: errors.MethodNotAllowed,
    grpc.StatusCode.FAILED_PRECONDITION: errors.Conflict,
}


def to_grpc_status(error: ApiError) -> status_pb2.Status:
    """The rich status of a refusal; answer with `await context.abort_with_status(rpc_status.to_status(...))`."""
    status = status_pb2.Status(code=error.status.value[0], message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=error.group)
    info.metadata.update({name: value for name, value in (("kind", error.kind), ("name", error.name)) if value})
    status.details.append(_packed(info))
    if error.causes:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=cause.field, reason=cause.reason, description=cause.message
            )
            for cause in error.causes
        ]
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    return status


def from_grpc_error(error: grpc.aio.AioRpcError) -> ApiError:
    """The refusal that a failed call carries; without our details it is judged by its status code alone."""
    info, causes = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    rich = _rich_status(error)
    for detail in rich.details:
        detail.Unpack(info) or detail.Unpack(causes)
    cls = _BY_REASON.get(info.reason) or _BY_STATUS.get(error.code(), errors.InternalError)
    return cls(
        error.details() or error.code().name,
        [Cause(cause.field, cause.reason, cause.description) for cause in causes.field_violations],
        kind=info.metadata.get("kind", ""),
        group=info.domain,
        name=info.metadata.get("name", ""),
    )


def from_kubernetes_status(status: Mapping[str, Any], code: int = 0) -> ApiError:
    """The refusal that a Kubernetes Status object (or whatever came instead of one) describes.

    `code` is that of the HTTP answer; unknown reasons are judged by it.
    """
    details = status.get("details") or {}
    code = int(status.get("code") or code)
    cls = _BY_REASON.get(str(status.get("reason") or "")) or _BY_CODE.get(code)
    if cls is None:
        cls = errors.BadRequest if 400 <= code < 500 else errors.InternalError
    return cls(
        str(status.get("message") or f"the server answered {code}"),
        [
            Cause(cause.get("field", ""), cause.get("reason", ""), cause.get("message", ""))
            for cause in details.get("causes") or ()
        ],
        kind=details.get("kind", ""),
        group=details.get("group", ""),
        name=details.get("name", ""),
    )


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _rich_status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    try:
        return rpc_status.from_call(error) or status_pb2.Status()
    except ValueError:  # details that contradict the status: not from a server of ours
        return status_pb2.Status()
