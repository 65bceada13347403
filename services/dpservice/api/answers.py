"""The two layers of error of DPDKironcore, in one place.

A call before Initialize is ABORTED, a request that can't be read INVALID_ARGUMENT; a refusal by the rules is a
successful call whose status has a code and a symbolic name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.common.logs import get_logger
from services.dpservice.api.call_metrics import CALLS
from services.dpservice.dataplane import Dataplane, EngineFailed
from services.dpservice.model.errors import NotInitialized, Refusal, Unreadable

log = get_logger(__name__)

Method = TypeVar("Method", bound=Callable[..., Any])


class Door:
    """Base of the servicers: what they all talk to."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane


def answers(
    response: type[Any], *, engine_failed: type[Refusal] | None = None, before_initialize: bool = False
) -> Callable[[Method], Method]:
    """Turns what a servicer's method raises into the client's view.

    `engine_failed` is the refusal that stands for packets that could not be made to follow; None: reads only.
    """

    def decorate(method: Method) -> Method:
        calls = CALLS.of(method.__name__)

        @wraps(method)
        def answer(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
            started, code = time.perf_counter(), "OK"
            try:
                if not context.is_active():
                    code = "CANCELLED"  # whoever asked has given up: an answer would not tell what was done
                    context.abort(grpc.StatusCode.CANCELLED, "the caller went away")
                if not before_initialize and not self._dataplane.initialized:
                    raise NotInitialized
                return method(self, request, context)
            except NotInitialized:
                code = "ABORTED"
                context.abort(grpc.StatusCode.ABORTED, "not initialized")
            except Unreadable as error:
                code = "INVALID_ARGUMENT"
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except Refusal as refusal:
                code = str(refusal.code)
                log.info("request refused", rpc=method.__name__, code=refusal.code, reason=str(refusal))
                return response(status=pb.Status(code=refusal.code, message=refusal.name))
            except EngineFailed as error:
                code = str(engine_failed.code) if engine_failed is not None else "UNKNOWN"
                log.error("engine failed", rpc=method.__name__, error=str(error))
                if engine_failed is None:
                    raise
                return response(status=pb.Status(code=engine_failed.code, message=engine_failed.name))
            finally:
                calls.add(code, time.perf_counter() - started)

        return answer  # type: ignore[return-value]

    return decorate
