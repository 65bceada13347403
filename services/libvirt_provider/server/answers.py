"""What all calls share: the state behind them, and the translation of refusals to gRPC status codes."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from services.libvirt_provider.model.classes import HostResources, MachineClass
from services.libvirt_provider.model.refusals import Invalid, Refusal
from services.libvirt_provider.nics import NicPlugin
from services.libvirt_provider.recorder import Recorder
from services.libvirt_provider.store import MachineStore

C = TypeVar("C", bound=Callable[..., Awaitable[Any]])


@dataclass
class Calls:
    """The base of the servicer's parts."""

    store: MachineStore
    classes: Mapping[str, MachineClass]
    host: HostResources
    nics: NicPlugin
    recorder: Recorder
    problem: Callable[[], str]


def refusing(call: C) -> C:
    """Turns a Refusal into its status; anything unforeseen stays a logged UNKNOWN."""

    @functools.wraps(call)
    async def wrapped(self: Calls, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await call(self, request, context)
        except Refusal as refusal:
            await context.abort(grpc.StatusCode[refusal.code], str(refusal))

    return wrapped  # type: ignore[return-value]


def required(request: Any, *fields: str) -> None:
    """Raises Invalid for the first field that is missing or empty."""
    for field in fields:
        present = request.HasField(field) if _is_message(request, field) else bool(getattr(request, field))
        if not present:
            raise Invalid(field, "must be given")


def _is_message(request: Any, field: str) -> bool:
    return request.DESCRIPTOR.fields_by_name[field].message_type is not None
