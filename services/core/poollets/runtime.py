"""Reaching a runtime: where its socket is, and whether it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from protos.runtime.v1alpha1 import changes_pb2, changes_pb2_grpc
from services.common.grpc_client import grpc_channel
from services.common.logs import get_logger

log = get_logger(__name__)

DISCOVERY_SECONDS: Final = 20.0
# Creating may mean to pull an image's manifest or to make a disk; IRI answers after it has noted the wish.
CALL_SECONDS: Final = 30.0

MACHINE_SOCKETS: Final = ("/var/run/iri-machinebroker.sock", "/var/run/iri-machineprovider.sock")
VOLUME_SOCKETS: Final = ("/var/run/iri-volumebroker.sock", "/var/run/iri-volumeprovider.sock")


async def runtime_channel(endpoint: str, well_known: Sequence[str]) -> grpc.aio.Channel:
    """A channel to `endpoint`, or to the first well-known socket that appears.

    Raises TimeoutError when none does within DISCOVERY_SECONDS.
    """
    async with asyncio.timeout(DISCOVERY_SECONDS):
        while not endpoint:
            endpoint = await asyncio.to_thread(_present, well_known)
            if not endpoint:
                await asyncio.sleep(1.0)
    log.info("runtime found", endpoint=endpoint)
    return grpc_channel(endpoint, deadline=CALL_SECONDS)


def changes_in(channel: grpc.aio.Channel) -> Callable[[], AsyncIterable[Any]]:
    """Opens the stream in which Ferrite's providers tell that something changed; others answer UNIMPLEMENTED."""
    stub: Any = changes_pb2_grpc.RuntimeChangesStub(channel)
    return lambda: stub.WatchChanges(changes_pb2.WatchChangesRequest())


def _present(sockets: Sequence[str]) -> str:
    return next((f"unix:{path}" for path in sockets if Path(path).is_socket()), "")


async def version(call: Any, request: Any) -> str:
    """The runtime's name, asked until it answers: the first part of machineID and volumeID."""
    while True:
        try:
            return str((await call(request)).runtime_name)
        except grpc.aio.AioRpcError as error:
            log.warning("runtime does not answer", code=error.code().name, details=error.details())
            await asyncio.sleep(1.0)
