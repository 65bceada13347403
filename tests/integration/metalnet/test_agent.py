"""Two nodes and everything between them, as processes: interfaces become Ready, find each other, survive kills."""

from __future__ import annotations

from tests.integration.metalnet.cluster import Partition


def underlay(nic: object) -> str:
    programmed = next(condition for condition in nic.status.conditions if condition.type == "Programmed")  # type: ignore[attr-defined]
    return str(programmed.message.split()[2])


async def test_interfaces_find_each_other(partition: Partition) -> None:
    one, two = partition.nodes
    await partition.create_network("blue", 2001)
    await partition.create_nic("a", "blue", "hv1", "10.0.0.1", "fd00::1", hostname="vm-a")
    await partition.create_nic("b", "blue", "hv2", "10.0.0.2", "fd00::2")
    a, b = await partition.ready("a"), await partition.ready("b")
    assert a.status.tap_device.name == "dtapvf_0"
    assert one.claims == {a.metadata.uid: "dtapvf_0"}
    [port] = await one.interfaces()
    assert (port.id.decode(), port.vni, port.pci_name, port.hostname) == (a.metadata.uid, 2001, "net_tap2", "vm-a")
    await partition.routes_are(one, 2001, {"10.0.0.2/32": underlay(b), "fd00::2/128": underlay(b)})
    await partition.routes_are(two, 2001, {"10.0.0.1/32": underlay(a), "fd00::1/128": underlay(a)})
