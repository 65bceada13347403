"""A pair of data planes: conversations with virtual services go on when the active one dies."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from protos.dpdkironcore.v1 import dpdk_pb2_grpc as pb_grpc
from tests.integration.dpservice.lab import Guest, Lab, eventually
from tests.integration.dpservice.test_standby import INSIDE, Instance, interface
from tests.integration.dpservice.test_virtual_services import OPTIONS, TCP_AT, UDP_AT, Echo, _ask, _client


@pytest.fixture
def pair(lab: Lab) -> Iterator[tuple[Instance, Instance, Guest, Echo]]:
    """The first instance is active, the second has another number for the guest's port."""
    host, echo = lab.hosts[0], Echo(lab)
    guest = lab.guest(host, 0, "10.0.0.1", "2001:db8::1")
    first, second = Instance(host, "a", "b", *OPTIONS), Instance(host, "b", "a", *OPTIONS)
    try:
        for instance in (first, second):
            stub: pb_grpc.DPDKironcoreStub = instance.start()
            if instance is second:
                instance.occupy("net_tap5")
            assert stub.Initialize(pb.InitializeRequest(), timeout=30).status.code == 0
            assert stub.CreateInterface(interface(guest, INSIDE), timeout=30).status.code == 0
        eventually(lambda: "following" in second.log)
        yield first, second, guest, echo
    finally:
        for each in (first, second):
            each.close()
        echo.close()


@pytest.mark.parametrize(
    "is_last_moment",
    [pytest.param(False, id="long before"), pytest.param(True, id="in the last moment")],
)
def test_a_conversation_outlives_the_active_instance(
    pair: tuple[Instance, Instance, Guest, Echo], *, is_last_moment: bool
) -> None:
    """It began before the crash, and keeps its source port."""
    first, second, guest, echo = pair
    other = _client(guest)
    eventually(lambda: _ask(other, UDP_AT, b"anybody?"))
    if is_last_moment:
        first.suspend()
    asker, talker = _client(guest), _client(guest, socket.SOCK_STREAM)
    with other, asker, talker:
        assert _ask(asker, UDP_AT, b"before") == b"BEFORE"
        before = echo.askers[-1]
        talker.connect(TCP_AT)
        talker.sendall(b"before")
        assert talker.recv(100) == b"BEFORE"
        first.kill()
        eventually(lambda: "caught up" in second.log)
        talker.sendall(b"after")
        assert talker.recv(100) == b"AFTER"
        assert _ask(asker, UDP_AT, b"after") == b"AFTER"
        assert echo.askers[-1] == before
        with _client(guest) as newcomer:
            assert _ask(newcomer, UDP_AT, b"hello") == b"HELLO"
            assert echo.askers[-1][1] == before[1] + 1
