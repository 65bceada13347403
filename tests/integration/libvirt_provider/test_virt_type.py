"""How guests run is found out by running one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from ferrite.dev.libvirtd import Libvirtd
from services.libvirt_provider.hypervisor import Hypervisor
from services.libvirt_provider.kvm_probe import choose_virt_type, run_minimal_guest
from tests.integration.libvirt_provider.harness import domains


@pytest_asyncio.fixture
async def hypervisor(libvirtd: Libvirtd) -> AsyncIterator[Hypervisor]:
    connection = Hypervisor(libvirtd.uri)
    task = asyncio.create_task(connection.run())
    await asyncio.wait_for(connection.connected(), 15)
    yield connection
    task.cancel()


async def test_the_minimal_guest_says_its_word(hypervisor: Hypervisor, libvirtd: Libvirtd, tmp_path: Path) -> None:
    assert await run_minimal_guest(hypervisor, tmp_path, "qemu") == ""
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240
    assert not domains(libvirtd.uri)
    assert "did not start" in await run_minimal_guest(hypervisor, tmp_path, "xen")


async def test_the_answer_is_kept_with_its_reason(hypervisor: Hypervisor, tmp_path: Path) -> None:
    cache = tmp_path / "probe.json"
    chosen = await choose_virt_type(hypervisor, "auto", cache)
    assert chosen.name in ("kvm", "qemu")
    assert "KVM" in chosen.reason
    kept = json.loads(cache.read_bytes())
    assert (kept["name"], kept["reason"]) == (chosen.name, chosen.reason)
    cache.write_text(json.dumps(kept | {"reason": "read from the file"}))
    assert (await choose_virt_type(hypervisor, "auto", cache)).reason == "read from the file"
    cache.write_text(json.dumps(kept | {"boot_id": "another boot", "reason": "stale"}))
    assert (await choose_virt_type(hypervisor, "auto", cache)) == chosen
    assert (await choose_virt_type(hypervisor, "kvm", cache)).reason == "configured"
