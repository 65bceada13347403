"""What all calls share: the state behind them, and the translation of failures to gRPC status codes."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from services.ceph_provider.cluster import CephError, CephLost, Cluster
from services.ceph_provider.model.classes import VolumeClass
from services.ceph_provider.model.refusals import Invalid, Refusal
from services.ceph_provider.reconcile import VolumeReconciler
from services.ceph_provider.recorder import Recorder
from services.ceph_provider.store import VolumeStore

C = TypeVar("C", bound=Callable[..., Awaitable[Any]])


@dataclass
class Calls:
    """The base of the servicer's parts."""

    store: VolumeStore
    cluster: Cluster
    classes: Mapping[str, VolumeClass]
    reconciler: VolumeReconciler
    recorder: Recorder


def answers(call: C) -> C:
    """Refusal -> its status, CephLost -> UNAVAILABLE, CephError -> INTERNAL; the unforeseen stays a logged UNKNOWN."""

    @functools.wraps(call)
    async def wrapped(self: Calls, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await call(self, request, context)
        except Refusal as refusal:
            await context.abort(grpc.StatusCode[refusal.code], str(refusal))
        except CephLost as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except CephError as error:
            await context.abort(grpc.StatusCode.INTERNAL, str(error))

    return wrapped  # type: ignore[return-value]


def required(request: Any, *fields: str, within: str = "") -> None:
    """Raises Invalid for the first field that is missing or empty; `within` is the path of `request` itself."""
    for field in fields:
        present = request.HasField(field) if _is_message(request, field) else bool(getattr(request, field))
        if not present:
            raise Invalid(f"{within}{field}", "must be given")


def _is_message(request: Any, field: str) -> bool:
    return request.DESCRIPTOR.fields_by_name[field].message_type is not None
