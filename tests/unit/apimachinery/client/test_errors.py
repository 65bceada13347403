from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from grpc_status import rpc_status

from services.apimachinery import errors
from services.apimachinery.client.errors import from_grpc_error, from_kubernetes_status, to_grpc_status
from services.apimachinery.errors import ApiError, Cause

ALL = [
    errors.BadRequest,
    errors.Unauthorized,
    errors.Forbidden,
    errors.NotFound,
    errors.MethodNotAllowed,
    errors.NotAcceptable,
    errors.AlreadyExists,
    errors.Conflict,
    errors.Gone,
    errors.UnsupportedMediaType,
    errors.Invalid,
    errors.TooManyRequests,
    errors.InternalError,
    errors.Unavailable,
    errors.Timeout,
]


def failed_call(code: grpc.StatusCode, details: str, metadata: Any = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details)


def over_the_wire(status: status_pb2.Status) -> grpc.aio.AioRpcError:
    answer = rpc_status.to_status(status)
    return failed_call(answer.code, answer.details, answer.trailing_metadata)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_refusal_comes_through_grpc_whole(cls: type[ApiError]) -> None:
    causes = [Cause("spec.ips[0]", "FieldValueInvalid", "is no address"), Cause("spec", "FieldValueRequired", "ä")]
    sent = cls("machines vm: naïve", causes, kind="machines", group="compute.ironcore.dev", name="vm")
    received = from_grpc_error(over_the_wire(to_grpc_status(sent)))
    assert type(received) is cls
    assert vars(received) == vars(sent)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(grpc.StatusCode.UNAVAILABLE, errors.Unavailable, id="no connection"),
        pytest.param(grpc.StatusCode.DEADLINE_EXCEEDED, errors.Timeout, id="no answer in time"),
        pytest.param(grpc.StatusCode.UNIMPLEMENTED, errors.MethodNotAllowed, id="no such method"),
        pytest.param(grpc.StatusCode.INVALID_ARGUMENT, errors.BadRequest, id="refused without details"),
        pytest.param(grpc.StatusCode.UNKNOWN, errors.InternalError, id="a handler that failed"),
        pytest.param(grpc.StatusCode.CANCELLED, errors.InternalError, id="anything else"),
    ],
)
def test_a_status_of_grpc_itself_is_judged_by_its_code(code: grpc.StatusCode, expected: type[ApiError]) -> None:
    received = from_grpc_error(failed_call(code, "why"))
    assert (type(received), received.message) == (expected, "why")


def test_details_that_contradict_the_status_are_not_believed() -> None:
    packed = to_grpc_status(errors.NotFound("a")).SerializeToString()
    received = from_grpc_error(failed_call(grpc.StatusCode.ABORTED, "b", [("grpc-status-details-bin", packed)]))
    assert type(received) is errors.Conflict


@pytest.mark.parametrize(
    ("status", "code", "expected", "message"),
    [
        pytest.param(
            {"reason": "AlreadyExists", "message": "x", "code": 409}, 409, errors.AlreadyExists, "x", id="ours"
        ),
        pytest.param({"reason": "Expired", "code": 410}, 0, errors.Gone, "the server answered 410", id="in a watch"),
        pytest.param({"reason": "Gone", "code": 410}, 410, errors.Gone, "the server answered 410", id="an older word"),
        pytest.param({"reason": "Novel", "code": 409}, 409, errors.Conflict, "the server answered 409", id="by code"),
        pytest.param({"message": "p"}, 502, errors.Unavailable, "p", id="a proxy without its server"),
        pytest.param({"message": "p"}, 418, errors.BadRequest, "p", id="some other client error"),
        pytest.param({"message": "p"}, 599, errors.InternalError, "p", id="some other server error"),
        pytest.param({}, 503, errors.Unavailable, "the server answered 503", id="nothing at all"),
    ],
)
def test_kubernetes_status(status: dict[str, Any], code: int, expected: type[ApiError], message: str) -> None:
    received = from_kubernetes_status(status, code)
    assert (type(received), received.message) == (expected, message)


def test_causes_of_a_kubernetes_status() -> None:
    causes = [{"field": "spec.x", "reason": "FieldValueInvalid", "message": "bad"}]
    details = {"kind": "machines", "group": "g", "name": "vm", "causes": causes}
    received = from_kubernetes_status({"reason": "Invalid", "details": details}, 422)
    assert received.causes == (Cause("spec.x", "FieldValueInvalid", "bad"),)
    assert (received.kind, received.group, received.name) == ("machines", "g", "vm")
