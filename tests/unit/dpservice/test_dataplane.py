"""The data plane between its callers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from services.dpservice.dataplane import PATIENCE, Dataplane
from services.dpservice.engine.memory import MemoryEngine
from services.dpservice.guest.services import GuestServices
from services.dpservice.journal import Journal, JournalError
from tests.unit.dpservice.builders import model


def test_what_a_crash_of_the_machine_left_of_the_journal_is_no_obstacle(tmp_path: Path) -> None:
    """Its packets are gone as well. While they are there, a journal without sense is one to ask somebody about."""
    path, engine = tmp_path / "journal", MemoryEngine()
    first = Dataplane(model(), engine, Journal(path), GuestServices())
    first.start()
    first.initialize()
    path.write_bytes(bytes(4096) + path.read_bytes())
    with pytest.raises(JournalError, match="damaged"):
        Dataplane(model(), engine, Journal(path), GuestServices()).start()
    after = Dataplane(model(), MemoryEngine(), Journal(path), GuestServices())
    after.start()
    assert after.uuid != first.uuid
    assert not after.initialized


@pytest.mark.parametrize(
    ("seconds", "busy"),
    [pytest.param(0.0, False, id="a short call"), pytest.param(100 * PATIENCE, True, id="a long call")],
)
def test_only_a_long_call_makes_it_busy(tmp_path: Path, seconds: float, busy: bool) -> None:
    dataplane = Dataplane(model(), MemoryEngine(), Journal(tmp_path / "journal"), GuestServices())
    begun, ended = threading.Event(), threading.Event()

    def ask() -> None:
        dataplane.read(lambda _: (begun.set(), ended.wait(seconds)))

    other = threading.Thread(target=ask)
    other.start()
    assert begun.wait(5)
    started = time.monotonic()
    assert dataplane.busy() is busy
    assert time.monotonic() - started < 50 * PATIENCE
    ended.set()
    other.join()
    assert not dataplane.busy()
