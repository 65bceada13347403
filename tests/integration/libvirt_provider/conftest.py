"""A real libvirtd in a network namespace of its own, the provider as a process, and the demo guest as image."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from ferrite.dev import guest_image
from ferrite.dev.libvirtd import Libvirtd, libvirtd_uri, start_libvirtd, sweep_libvirtd
from protos.iri.machine.v1alpha1 import machine_pb2_grpc
from tests.integration.libvirt_provider.harness import BASE, CLASSES, PREFIX, Provider, Runtime, sweep
from tests.support.eventually import eventually


@pytest.fixture(scope="session")
def workspace() -> Iterator[Path]:
    sweep()
    directory = BASE / f"{PREFIX}{secrets.token_hex(3)}"
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "owner").write_text(str(os.getpid()))
    (directory / "classes.yaml").write_text(CLASSES)
    subprocess.run(["ip", "netns", "add", directory.name], check=True)
    subprocess.run(["ip", "-n", directory.name, "link", "set", "lo", "up"], check=True)
    yield directory
    sweep_libvirtd(directory / "hv")
    subprocess.run(["ip", "netns", "del", directory.name], check=True)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def image(workspace: Path) -> Path:
    directory = workspace / "image"
    guest_image.build(directory)
    return directory


@pytest.fixture(scope="session")
def libvirtd(workspace: Path) -> Iterator[Libvirtd]:
    daemon = start_libvirtd(workspace / "hv", netns=workspace.name)
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def provider(workspace: Path, libvirtd: Libvirtd) -> Iterator[Provider]:
    """Emulated guests, NICs behind QEMU's NAT."""
    arguments = ["--virt-type", "qemu", "--nic-plugin", "isolated", "--shutdown-timeout", "4"]
    started = Provider(workspace, libvirtd_uri(workspace / "hv"), arguments)
    started.start()
    yield started
    code = started.stop()
    shutil.rmtree(started.state)
    (workspace / "provider.log").unlink()
    assert code == 0


@pytest_asyncio.fixture
async def runtime(provider: Provider) -> AsyncIterator[Runtime]:
    """Deletes what the test has created."""
    await eventually(provider.listens, 20, provider.log)
    async with grpc.aio.insecure_channel(provider.address) as channel:
        client = Runtime(provider, machine_pb2_grpc.MachineRuntimeStub(channel))
        yield client
        for machine_id in client.created:
            if await client.get(machine_id) is not None:
                await client.delete(machine_id)
