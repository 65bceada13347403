"""A server and channels on loopback: what every process gets from the library."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ferrite.dev.certificates import Authority, Identity
from protos.api.v1 import resources_pb2, resources_pb2_grpc
from services.common.grpc_client import grpc_channel
from services.common.grpc_server import grpc_server
from services.common.tls import TlsFiles

NAME = resources_pb2.DESCRIPTOR.services_by_name["Resources"].full_name


class Resources(resources_pb2_grpc.ResourcesServicer):
    """Answers Get after the seconds that stand in the name; streams for ever."""

    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def Get(self, request: Any, context: Any) -> resources_pb2.Object:
        self.began.set()
        await asyncio.sleep(float(request.name))
        return resources_pb2.Object(json=b"{}")

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[resources_pb2.ObjectEvent]:
        yield resources_pb2.ObjectEvent()
        await asyncio.Event().wait()


@asynccontextmanager
async def serving(listen: str = "127.0.0.1:0", tls: TlsFiles | None = None) -> AsyncIterator[tuple[str, Resources]]:
    servicer = Resources()
    async with grpc_server(
        listen, [NAME], lambda server: resources_pb2_grpc.add_ResourcesServicer_to_server(servicer, server), tls=tls
    ) as address:
        yield address, servicer


async def get(channel: grpc.aio.Channel, seconds: float, **options: float) -> None:
    request = resources_pb2.GetRequest(name=str(seconds))
    await resources_pb2_grpc.ResourcesStub(channel).Get(request, **options)  # type: ignore[call-arg]


async def test_health_and_reflection_tell_what_is_served() -> None:
    async with serving() as (address, _), grpc_channel(address) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=NAME))
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([listing]))
        answer = await anext(aiter(stream))
        assert NAME in [service.name for service in answer.list_services_response.service]


async def test_a_unix_socket_is_for_its_owner_and_replaces_that_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "run" / "socket"
    path.parent.mkdir()
    path.touch()
    async with serving(f"unix:{path}") as (address, _), grpc_channel(address) as channel:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await get(channel, 0)


async def test_an_address_that_is_taken_is_an_error() -> None:
    async with serving() as (address, _):
        with pytest.raises(RuntimeError):
            async with serving(address):
                pass


async def test_a_call_that_is_not_there_says_so() -> None:
    async with serving() as (address, _), grpc_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await resources_pb2_grpc.ResourcesStub(channel).List(resources_pb2.ListRequest())
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert raised.value.details() == "List is not implemented by this service"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param({}, grpc.StatusCode.DEADLINE_EXCEEDED, id="the channel's deadline holds for all calls"),
        pytest.param({"timeout": 0.05}, grpc.StatusCode.DEADLINE_EXCEEDED, id="a call's own deadline"),
        pytest.param({"timeout": 5.0}, None, id="a call may have more time"),
    ],
)
async def test_deadlines(options: dict[str, float], code: grpc.StatusCode | None) -> None:
    async with serving() as (address, _), grpc_channel(address, deadline=0.1) as channel:
        if code is None:
            await get(channel, 0.3, **options)
            return
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await get(channel, 0.3, **options)
        assert raised.value.code() is code


async def test_draining_lets_unary_calls_finish_and_cuts_streams() -> None:
    async with grpc_channel_to_drained_server() as (channel, drained):
        watch = resources_pb2_grpc.ResourcesStub(channel).Watch(resources_pb2.WatchRequest())
        await anext(aiter(watch))
        call = asyncio.create_task(get(channel, 0.3))
        took = await drained()
        await call
        assert 0.2 < took < 2
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in watch:
                pass


@asynccontextmanager
async def grpc_channel_to_drained_server() -> AsyncIterator[tuple[grpc.aio.Channel, Any]]:
    server = serving()
    address, servicer = await server.__aenter__()

    async def drained() -> float:
        await servicer.began.wait()
        started = time.monotonic()
        await server.__aexit__(None, None, None)
        return time.monotonic() - started

    async with grpc_channel(address) as channel:
        yield channel, drained


async def test_both_sides_must_be_of_the_same_authority(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")

    def files(authority: Authority, trust: Authority, name: str) -> TlsFiles:
        cert, key = authority.issue(name, Identity(name, hosts=("127.0.0.1",)))
        return TlsFiles(trust.certificate_file, cert, key)

    async with serving(tls=files(ours, ours, "server")) as (address, _):
        async with grpc_channel(address, tls=files(ours, ours, "client")) as channel:
            await get(channel, 0)
        for wrong in (files(theirs, ours, "stranger"), files(ours, theirs, "misled"), None):
            async with grpc_channel(address, tls=wrong, deadline=2) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await get(channel, 0)
