"""The connection to a libvirtd that hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ferrite.dev.libvirtd import Libvirtd
from services.libvirt_provider.hypervisor import Hypervisor, HypervisorLost
from tests.support.eventually import eventually


@contextmanager
def stopped(libvirtd: Libvirtd) -> Iterator[None]:
    os.kill(libvirtd.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(libvirtd.process.pid, signal.SIGCONT)


def libvirt_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("libvirt_")}


async def test_one_try_at_a_time_is_made_while_libvirt_does_not_answer(libvirtd: Libvirtd) -> None:
    before = libvirt_threads()
    hypervisor = Hypervisor(libvirtd.uri, connect_seconds=0.1)
    task = asyncio.create_task(hypervisor.run())
    with stopped(libvirtd):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hypervisor.connected(), 3)
        assert len(libvirt_threads() - before) == 1
        assert "no connection" in hypervisor.problem()
    await asyncio.wait_for(hypervisor.connected(), 30)
    task.cancel()


async def test_calls_that_hang_cost_the_connection_once_they_hold_half_of_its_threads(libvirtd: Libvirtd) -> None:
    hypervisor = Hypervisor(libvirtd.uri, threads=4)
    opened: list[None] = []
    hypervisor.on_connected = lambda: opened.append(None)
    task = asyncio.create_task(hypervisor.run())
    await asyncio.wait_for(hypervisor.connected(), 30)
    release = threading.Event()
    try:
        for _ in range(2):
            assert len(opened) == 1
            with pytest.raises(HypervisorLost, match="hang: libvirt did not answer within"):
                await hypervisor.call("hang", lambda connection: release.wait(60), 0.1)
        await eventually(lambda: len(opened) == 2 and not hypervisor.problem())
        assert await hypervisor.call("say the version", lambda connection: connection.getLibVersion(), 30) > 0
    finally:
        release.set()
        task.cancel()
