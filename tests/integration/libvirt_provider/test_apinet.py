"""An interface of the network control plane: a real API server says which TAP, a real guest answers on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from ferrite.dev.libvirtd import Libvirtd, libvirtd_uri
from protos.iri.machine.v1alpha1 import machine_pb2 as pb
from protos.net.v1alpha1.network_interface_pb2 import NetworkInterface
from services.apimachinery.client.interface import Client
from services.apimachinery.server.resource import define
from tests.integration.libvirt_provider.harness import Provider, Runtime, domains, machine
from tests.support.apiserver import TestServer, running_apiserver
from tests.support.etcd import running_etcd
from tests.support.eventually import eventually

NETWORK = "ironcore-net://tenant/blue/200/11111111-2222-3333-4444-555555555555"
NODE = "partition.hv"
STATIC = "run ip link set eth0 up; ip addr add 10.9.0.5/24 dev eth0\nping 10.9.0.1\nserve-tcp 5001\n"
SEND = "import socket; socket.create_connection(('10.9.0.5', 5001), 10).sendall(bytes(1 << 20))"


@pytest.fixture(scope="module")
def etcd() -> Iterator[str]:
    with running_etcd() as address:
        yield address


@pytest_asyncio.fixture
async def net(etcd: str, tmp_path: Path) -> AsyncIterator[TestServer]:
    async with running_apiserver(etcd, tmp_path, [define(NetworkInterface)]) as server:
        yield server


@pytest.fixture
def provider(workspace: Path, libvirtd: Libvirtd, net: TestServer) -> Iterator[Provider]:
    arguments = ["--virt-type", "qemu", "--node-name", NODE, "--shutdown-timeout", "4", "--net.address", net.grpc]
    for name in ("ca", "cert", "key"):
        arguments += [f"--net.tls-{name}", str(getattr(net.client_tls, name))]
    started = Provider(workspace, libvirtd_uri(workspace / "hv"), arguments)
    started.start()
    yield started
    assert started.stop() == 0


@pytest.fixture
def tap(workspace: Path) -> Iterator[str]:
    """A TAP as the node agent makes one; the host's end has an address that the guest pings."""
    for command in ("tuntap add dev fttap0 mode tap", "addr add 10.9.0.1/24 dev fttap0", "link set fttap0 up"):
        subprocess.run(["ip", "-n", workspace.name, *command.split()], check=True)
    yield "fttap0"
    subprocess.run(["ip", "-n", workspace.name, "link", "del", "fttap0"], check=True)


async def test_an_interface_waits_for_its_tap_and_gives_it_back(
    runtime: Runtime, provider: Provider, net: TestServer, image: Path, tap: str, workspace: Path
) -> None:
    client = net.client("grpc")
    asked = machine(image, "hostname web\n" + STATIC)
    asked.spec.guest_config.hostname = "web"
    asked.spec.network_interfaces.add(name="nic0", network_id=NETWORK, ips=["10.9.0.5"])
    machine_id = await runtime.create(asked)

    async def made() -> NetworkInterface | None:
        return next(iter((await client.list(NetworkInterface, "tenant")).items), None)

    interface: NetworkInterface = await eventually(made, 15, provider.log)
    assert interface.spec.node_ref.name == NODE
    assert interface.spec.network_ref.name == "blue"
    assert list(interface.spec.ips) == ["10.9.0.5"]
    assert interface.spec.hostname == "web"
    assert interface.metadata.labels["libvirt-provider.ironcore.dev/machine-id"] == machine_id

    async def waits() -> bool:
        seen = await runtime.get(machine_id)
        return seen is not None and any(
            condition.reason == "NetworkInterfaceNotReady" for condition in seen.status.machine_conditions
        )

    await eventually(waits, 15, provider.log)
    assert machine_id not in domains(provider.uri)

    interface.status.state = "Ready"
    interface.status.tap_device.name = tap
    await client.update_status(interface)
    running = await runtime.state(machine_id, pb.MACHINE_RUNNING)
    assert await _pinged(runtime, machine_id)
    send = ["ip", "netns", "exec", workspace.name, sys.executable, "-c", SEND]
    await asyncio.to_thread(subprocess.run, send, check=True, timeout=20)
    await runtime.says(machine_id, f"tcp received {1 << 20} bytes")
    handle = f"ironcore-net://tenant/{interface.metadata.name}/{NODE}/{interface.metadata.uid}"
    assert [nic.handle for nic in running.status.network_interfaces] == [handle]

    await runtime.delete(machine_id)
    assert not (await client.list(NetworkInterface, "tenant")).items
    await client.close()


async def test_interfaces_of_unknown_machines_are_removed_at_start(provider: Provider, net: TestServer) -> None:
    client = net.client("grpc")
    orphan = NetworkInterface()
    orphan.metadata.name, orphan.metadata.namespace = "orphan", "tenant"
    orphan.metadata.labels["libvirt-provider.ironcore.dev/machine-id"] = "gone"
    orphan.spec.node_ref.name, orphan.spec.network_ref.name = NODE, "blue"
    foreign = NetworkInterface()
    foreign.CopyFrom(orphan)
    foreign.metadata.name, foreign.spec.node_ref.name = "foreign", "partition.other"
    await client.create(orphan)
    await client.create(foreign)

    async def only_the_foreign_one_is_left() -> bool:
        left: Client = client
        return [each.metadata.name for each in (await left.list(NetworkInterface, "tenant")).items] == ["foreign"]

    await eventually(only_the_foreign_one_is_left, 15, provider.log)
    await client.close()


async def _pinged(runtime: Runtime, machine_id: str) -> bool:
    return "ping 10.9.0.1 ok" in await runtime.says(machine_id, "ping 10.9.0.1 ok")
