"""What one data plane tells another: messages, and flows that keep their meaning under other port numbers; and how long
it stands by."""

from __future__ import annotations

import os
import threading
import time
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from protos.dpservice.v1 import standby_pb2 as pb
from services.dpservice.engine.interface import FlowLayout, FlowUpdate, GuestState, SharedTables
from services.dpservice.engine.memory import MemoryEngine
from services.dpservice.model.rows import PortNumber, Vni
from services.dpservice.model.underlay import UnderlayAddress
from services.dpservice.standby import messages
from services.dpservice.standby.messages import Garbled, parts, rounds, tables_of, told
from services.dpservice.standby.role import ActiveLock, Standby

KEY, VALUE = 4, 2
LAYOUT = FlowLayout(version=1, key=KEY, value=VALUE, place=3, session=5)
GUESTS = {
    PortNumber(0): GuestState(UnderlayAddress(IPv6Address("fc00::1")), bytes(range(6)), "net_tap2", Vni(7)),
    PortNumber(7): GuestState(UnderlayAddress(IPv6Address("fc00::2")), b"", "", Vni(0)),
}


def flow(number: int) -> bytes:
    return number.to_bytes(KEY, "big")


@pytest.mark.parametrize(
    "update",
    [
        pytest.param(FlowUpdate(True, GUESTS, {}), id="nothing but guests"),
        pytest.param(FlowUpdate(False, {}, {flow(1): b"ab", flow(2): None, flow(3): b"cd"}), id="come and go"),
        pytest.param(FlowUpdate(True, GUESTS, {flow(n): b"xy" for n in range(25)}), id="several messages"),
        pytest.param(FlowUpdate(False, GUESTS, {flow(n): None for n in range(20)}), id="all of it gone"),
        pytest.param(FlowUpdate(False, GUESTS, {}, {b"abc": b"12345", b"def": None}, b"services"), id="sessions"),
        pytest.param(
            FlowUpdate(True, {}, {flow(n): None for n in range(20)}, {b"abc": b"12345"}, b"services"),
            id="sessions besides several messages of flows",
        ),
    ],
)
def test_a_round_arrives_as_it_was_told(monkeypatch: pytest.MonkeyPatch, update: FlowUpdate) -> None:
    monkeypatch.setattr(messages, "PART", 10)
    sent = list(parts(update))
    assert len(sent) == max(1, -(-len(update.flows) // 10))
    assert [each.complete for each in sent] == [False] * (len(sent) - 1) + [True]
    assert list(rounds([*sent, *parts(FlowUpdate(False, {}, {}))], LAYOUT)) == [update, FlowUpdate(False, {}, {})]


def test_where_tables_are() -> None:
    tables = SharedTables("2f1b8b9e-5b5e-4c5c-8c1a-1d4c9f3f4d10", {"flows": 17, "ports": 4})
    assert tables_of(pb.StateUpdate(fresh=True, tables=told(tables))) == tables
    assert tables_of(pb.StateUpdate(fresh=True)) == SharedTables("", {}), "of an earlier version"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(pb.StateUpdate(keys=flow(1)[:3], complete=True), id="half a key"),
        pytest.param(pb.StateUpdate(keys=flow(1), complete=True), id="a key without value"),
        pytest.param(pb.StateUpdate(values=b"ab", complete=True), id="a value without key"),
        pytest.param(pb.StateUpdate(session_places=b"abc", complete=True), id="a source port without holder"),
        pytest.param(pb.StateUpdate(removed=b"a", complete=True), id="half of what is gone"),
        pytest.param(pb.StateUpdate(guests=[pb.GuestState(underlay=bytes(4))], complete=True), id="a short address"),
        pytest.param(
            pb.StateUpdate(guests=[pb.GuestState(underlay=bytes(16), mac=bytes(5))], complete=True), id="a short MAC"
        ),
    ],
)
def test_what_is_no_update(message: pb.StateUpdate) -> None:
    with pytest.raises(Garbled):
        list(rounds([message], LAYOUT))


@pytest.mark.parametrize("peer", [pytest.param("", id="follows nobody"), pytest.param("unix:{}/nobody", id="follows")])
def test_a_wait_for_the_lock_that_fails_ends(tmp_path: Path, peer: str) -> None:
    path = tmp_path / "active"
    lock = ActiveLock(path)
    unlockable = os.open(path, os.O_PATH)  # flock(2): EBADF
    os.dup2(unlockable, lock._file)
    os.close(unlockable)
    with pytest.raises(OSError, match=f"{path} can't be locked: Bad file descriptor"):
        Standby(MemoryEngine(), lock, peer.format(tmp_path)).wait(threading.Event())
    assert "follower" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("peer", [pytest.param("", id="follows nobody"), pytest.param("unix:{}/nobody", id="follows")])
def test_standing_by_ends_when_told_to_or_with_the_lock(tmp_path: Path, peer: str) -> None:
    holder, waiting, stop = ActiveLock(tmp_path / "active"), ActiveLock(tmp_path / "active"), threading.Event()
    assert holder.take()
    assert not waiting.take()
    standby = Standby(MemoryEngine(), waiting, peer.format(tmp_path))
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    assert not standby.wait(stop)
    assert 0.2 <= time.monotonic() - started < 2
    os.close(holder._file)
    assert Standby(MemoryEngine(), waiting, peer.format(tmp_path)).wait(threading.Event())
