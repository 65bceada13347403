"""Whom the stream of changes tells what, over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.runtime.v1alpha1 import changes_pb2, changes_pb2_grpc
from services.common import runtime_changes
from services.common.grpc_client import grpc_channel
from services.common.grpc_server import grpc_server
from tests.support.eventually import eventually

SECONDS = 5.0
QUIET_SECONDS = 0.1


@asynccontextmanager
async def served(changes: runtime_changes.RuntimeChanges | None, directory: Path) -> AsyncIterator[Any]:
    def register(server: grpc.aio.Server) -> None:
        if changes is not None:
            changes_pb2_grpc.add_RuntimeChangesServicer_to_server(changes, server)

    address = f"unix:{directory}/s"
    async with grpc_server(address, [runtime_changes.SERVICE], register), grpc_channel(address) as channel:
        yield changes_pb2_grpc.RuntimeChangesStub(channel)


async def test_each_watcher_hears_at_once_and_of_each_change(tmp_path: Path) -> None:
    changes = runtime_changes.RuntimeChanges()
    async with served(changes, tmp_path) as stub:
        streams = [stub.WatchChanges(changes_pb2.WatchChangesRequest()) for _ in range(2)]
        for stream in streams:
            await asyncio.wait_for(stream.read(), SECONDS)
        for _ in range(2):
            changes.note()
            for stream in streams:
                await asyncio.wait_for(stream.read(), SECONDS)
        reading = asyncio.ensure_future(streams[0].read())
        done, _ = await asyncio.wait([reading], timeout=QUIET_SECONDS)
        assert not done
        reading.cancel()


async def test_changes_share_a_message_and_a_watcher_that_went_is_forgotten(tmp_path: Path) -> None:
    changes = runtime_changes.RuntimeChanges()
    async with served(changes, tmp_path) as stub:
        stream = stub.WatchChanges(changes_pb2.WatchChangesRequest())
        await asyncio.wait_for(stream.read(), SECONDS)
        for _ in range(100):
            changes.note()
        await asyncio.wait_for(stream.read(), SECONDS)
        stream.cancel()
        await eventually(lambda: not changes._watchers, SECONDS)


async def test_a_runtime_without_it_says_so(tmp_path: Path) -> None:
    async with served(None, tmp_path) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.WatchChanges(changes_pb2.WatchChangesRequest()).read()
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
