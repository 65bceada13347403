"""What the daemon is to its callers, whatever they ask for: its life, sockets, streams, health and metrics."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from services.dpservice.standby.role import ActiveLock
from tests.integration.dpservice.daemon import Daemon
from tests.integration.dpservice.lab import eventually
from tests.integration.dpservice.messages import interface, route


def test_nothing_before_initialize_but_health(daemon: Daemon) -> None:
    calls = {
        "CheckInitialized": pb.CheckInitializedRequest(),
        "GetVersion": pb.GetVersionRequest(),
        "ListInterfaces": pb.ListInterfacesRequest(),
        "GetInterface": pb.GetInterfaceRequest(),
        "CreateInterface": pb.CreateInterfaceRequest(),
        "DeleteInterface": pb.DeleteInterfaceRequest(),
        "ListPrefixes": pb.ListPrefixesRequest(),
        "CreatePrefix": pb.CreatePrefixRequest(),
        "DeletePrefix": pb.DeletePrefixRequest(),
        "ListRoutes": pb.ListRoutesRequest(),
        "CreateRoute": pb.CreateRouteRequest(),
        "DeleteRoute": pb.DeleteRouteRequest(),
        "CheckVniInUse": pb.CheckVniInUseRequest(),
        "ResetVni": pb.ResetVniRequest(),
    }
    for name, request in calls.items():
        with pytest.raises(grpc.RpcError) as error:
            getattr(daemon.stub, name)(request, timeout=30)
        assert error.value.code() is grpc.StatusCode.ABORTED, name
        assert error.value.details() == "not initialized"
    health = health_pb2_grpc.HealthStub(daemon.channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=30).status == health_pb2.HealthCheckResponse.SERVING


def test_version_and_uuid(stub: pb_grpc.DPDKironcoreStub) -> None:
    first = stub.Initialize(pb.InitializeRequest(), timeout=30).uuid
    assert first == first.upper() == stub.CheckInitialized(pb.CheckInitializedRequest(), timeout=30).uuid
    asked = pb.GetVersionRequest(client_protocol="1", client_name="test", client_version="0")
    answer = stub.GetVersion(asked, timeout=30)
    assert answer.service_protocol == answer.service_version != ""


def test_health(daemon: Daemon) -> None:
    health, states = health_pb2_grpc.HealthStub(daemon.channel), health_pb2.HealthCheckResponse
    named = health_pb2.HealthCheckRequest(service="dpdkironcore.v1.DPDKironcore")
    assert health.Check(named, timeout=30).status == states.SERVING
    unknown = health_pb2.HealthCheckRequest(service="nothing")
    assert health.Check(unknown, timeout=30).status == states.SERVICE_UNKNOWN
    with pytest.raises(grpc.RpcError) as error:
        next(health.Watch(unknown, timeout=30))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    watchers = [health.Watch(named, timeout=20) for _ in range(20)]  # more than the server has threads
    assert [next(each).status for each in watchers] == [states.SERVING] * 20
    assert health.Check(named, timeout=30).status == states.SERVING
    daemon.process.terminate()
    assert next(watchers[0]).status == states.NOT_SERVING


def test_reflection(daemon: Daemon) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(daemon.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(stub.ServerReflectionInfo(iter([asked]), timeout=30))
    names = {each.name for each in answer.list_services_response.service}
    assert {"dpdkironcore.v1.DPDKironcore", "grpc.health.v1.Health"} <= names


def test_open_streams_hold_up_no_call(daemon: Daemon) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(daemon.channel)
    more = threading.Event()

    def questions() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        more.wait(20)

    streams = [reflection.ServerReflectionInfo(questions(), timeout=20) for _ in range(20)]
    assert all(next(stream).HasField("list_services_response") for stream in streams)
    assert daemon.stub.Initialize(pb.InitializeRequest(), timeout=30).uuid
    more.set()
    assert [list(stream) for stream in streams] == [[]] * 20


def test_socket_is_for_its_owner_only(daemon: Daemon) -> None:
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600


def test_second_process_on_the_same_state_is_refused(daemon: Daemon) -> None:
    done = subprocess.run(daemon.process.args, capture_output=True, text=True, timeout=20)  # type: ignore[call-overload]
    assert done.returncode == 1
    assert "another process" in done.stderr
    assert eventually(lambda: daemon.stub.Initialize(pb.InitializeRequest(), timeout=30).uuid)


WITHOUT_LOCKS = """
import errno, fcntl, os, sys

def flock(file, how, really=fcntl.flock):
    if not how & fcntl.LOCK_NB:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    really(file, how)

fcntl.flock = flock
from services.dpservice.__main__ import main
main(sys.argv[1:])
"""
"""The process, on a machine that has no locks left when it is about to wait for one."""


def test_standby_that_can_not_wait_for_the_lock_fails(tmp_path: Path) -> None:
    """So that whoever started it starts it anew."""
    holder = ActiveLock(tmp_path / "active")
    assert holder.take()
    command = [
        *(sys.executable, "-c", WITHOUT_LOCKS, "serve", "--engine=memory", "--ipv6=fc00:1::1", "--uplink=pf0"),
        *(f"--state-dir={tmp_path}/state", f"--grpc-unix={tmp_path}/grpc.sock"),
        *(f"--active-lockfile={tmp_path}/active", f"--sync-peer=unix:{tmp_path}/other.sock"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, done.stderr
    (failure,) = (line for line in done.stderr.splitlines() if "process failed" in line)
    assert f"{tmp_path}/active can't be locked: No locks available" in failure
    assert "Traceback" not in done.stderr


def test_burst_of_calls_is_answered(stub: pb_grpc.DPDKironcoreStub) -> None:
    stub.CreateInterface(interface(), timeout=30)
    requests = [
        pb.CreateRouteRequest(vni=100, route=route(address=f"10.{n >> 8}.{n & 255}.0".encode(), length=24))
        for n in range(3000)
    ]
    calls = [stub.CreateRoute.future(each, timeout=60) for each in requests]
    assert {call.result().status.code for call in calls} == {0}
    assert len(stub.ListRoutes(pb.ListRoutesRequest(vni=0), timeout=10).routes) == 3000


def test_metrics(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    daemon = Daemon(tmp_path, f"--ops-listen={address}")
    try:
        daemon.stub.Initialize(pb.InitializeRequest(), timeout=30)
        daemon.stub.CreateInterface(interface(), timeout=30)
        text = urllib.request.urlopen(f"http://{address}/metrics", timeout=30).read().decode()
        assert "ferrite_dpservice_interfaces 1.0" in text
        assert 'ferrite_dpservice_routes{vni="100"} 1.0' in text
        assert urllib.request.urlopen(f"http://{address}/readyz", timeout=30).read() == b"ok\n"
    finally:
        daemon.close()
