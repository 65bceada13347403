"""Agents over real data planes in namespaces: what is declared as interfaces ends as packets between guests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.dpservice.lab import Guest, Host, Lab, sweep
from tests.integration.metalnet.cluster import WITHIN, Partition, Process
from tests.support.etcd import running_etcd
from tests.support.eventually import eventually
from tests.support.processes import directory


class LabPartition(Partition):
    """A partition whose data planes are those of a lab, and whose devices are called as they are there."""

    def __init__(self, etcd: str, directory: Path, lab: Lab) -> None:
        super().__init__(etcd, directory)
        for node, host in zip(self.nodes, lab.hosts, strict=True):
            node.socket = f"unix:{host.directory / 'grpc.sock'}"
            # The last one of a flag counts.
            node.agent.arguments += [f"--dp-service-address={node.socket}", "--tap-prefix=dtap"]

    @property
    def processes(self) -> list[Process]:
        return [self.api, self.bond, *(node.agent for node in self.nodes)]


@pytest.fixture(scope="module", autouse=True)
def _swept() -> None:
    sweep()


@pytest.fixture
async def lab_partition() -> AsyncIterator[tuple[LabPartition, Host, list[Guest]]]:
    """Two hosts with a guest each on their first device; nothing is declared yet."""
    lab = Lab()
    try:
        one, two = lab.hosts
        guests = [lab.guest(one, 0, "10.0.0.1", "2001:db8::1"), lab.guest(two, 0, "10.0.0.2", "2001:db8::2")]
        for host in lab.hosts:
            host.start()
        with running_etcd() as etcd, directory("metalnet") as place:
            partition = LabPartition(etcd, place, lab)
            partition.start()
            try:
                await partition.connect()
                yield partition, one, guests
                await partition.clean()
            finally:
                partition.close()
                partition.print_logs()
    finally:
        lab.close()


async def test_declared_interfaces_carry_packets(lab_partition: tuple[LabPartition, Host, list[Guest]]) -> None:
    partition, host, (a, b) = lab_partition
    assert not a.ping(b.ipv4)
    await partition.create_network("blue", 2001)
    for name, node, guest in (("a", "hv1", a), ("b", "hv2", b)):
        await partition.create_nic(name, "blue", node, guest.ipv4, guest.ipv6)
        assert (await partition.ready(name)).status.tap_device.name == "dtap0"
    await eventually(lambda: a.ping(b.ipv4) and b.ping(a.ipv6), WITHIN)
    host.kill()
    host.start()  # adopts what it finds: nothing has to be made again
    assert a.ping(b.ipv4)
    host.kill()
    host.start("--cold")
    await eventually(lambda: a.ping(b.ipv4) and b.ping(a.ipv6), WITHIN)
    await partition.delete("b")
    await eventually(lambda: not a.ping(b.ipv4), WITHIN)
