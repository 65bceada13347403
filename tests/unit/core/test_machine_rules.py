from __future__ import annotations

from typing import Any

import pytest

from protos.compute.v1alpha1.machine_pb2 import Machine
from services.apimachinery.errors import BadRequest
from services.core.model.devices import assign_devices, suffix
from tests.unit.core.writes import causes, completed

CLASS = {"machineClassRef": {"name": "small"}}
NIC: dict[str, Any] = {"networkRef": {"name": "blue"}, "ipFamilies": ["IPv4"], "ips": [{"value": "10.0.0.1"}]}
VOLUME: dict[str, Any] = {"volumeClassRef": {"name": "fast"}, "resources": {"storage": "1Gi"}}
NIC_PATH = "spec.networkInterfaces[0].ephemeral.networkInterfaceTemplate.spec"
VOLUME_PATH = "spec.volumes[0].ephemeral.volumeTemplate.spec"


def with_nic(**spec: Any) -> dict[str, Any]:
    template = {"networkInterfaceTemplate": {"spec": {**NIC, **spec}}}
    return {**CLASS, "networkInterfaces": [{"name": "a", "ephemeral": template}]}


def with_volume(**spec: Any) -> dict[str, Any]:
    return {**CLASS, "volumes": [{"name": "a", "ephemeral": {"volumeTemplate": {"spec": {**VOLUME, **spec}}}}]}


def disk(name: str, **source: Any) -> dict[str, Any]:
    return {"name": name, "localDisk": source}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(CLASS, [], id="a class is enough"),
        pytest.param(with_nic(), [], id="an interface template"),
        pytest.param(with_nic(ips=[]), [(f"{NIC_PATH}.ips", "Invalid")], id="one address per family, in templates too"),
        pytest.param(
            with_nic(ips=[{"value": "::1"}]), [(f"{NIC_PATH}.ips[0].value", "Invalid")], id="an address of its family"
        ),
        pytest.param(with_volume(), [], id="a volume template"),
        pytest.param(
            with_volume(resources={}), [(f"{VOLUME_PATH}.resources.storage", "Required")], id="a volume needs a size"
        ),
        pytest.param(
            with_volume(claimRef={"name": "m", "uid": "1"}),
            [(f"{VOLUME_PATH}.claimRef", "Forbidden")],
            id="a template can't be claimed",
        ),
        pytest.param(
            with_volume(unclaimable=True),
            [(f"{VOLUME_PATH}.unclaimable", "Forbidden")],
            id="a template can't be unclaimable",
        ),
    ],
)
def test_create(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert causes(Machine, completed(Machine, spec)) == expected


@pytest.mark.parametrize(
    ("old", "new", "attached", "expected"),
    [
        pytest.param([disk("a", image="i")], [disk("a", image="i")], [], [], id="nothing changed"),
        pytest.param([disk("a", image="i")], [], [], [("spec.volumes", "Forbidden")], id="a disk with image stays"),
        pytest.param(
            [disk("a", image="i")],
            [disk("a", image="j")],
            [],
            [("spec.volumes[0].localDisk.image", "Forbidden")],
            id="an image is immutable",
        ),
        pytest.param(
            [disk("a", image="i")],
            [{"name": "a", "volumeRef": {"name": "v"}}],
            [],
            [("spec.volumes[0].localDisk.image", "Forbidden")],
            id="a disk with image keeps its source",
        ),
        pytest.param([disk("a")], [], [], [], id="an empty disk may go"),
        pytest.param([], [disk("a")], ["a"], [("spec.volumes[0].name", "Duplicate")], id="a name still attached"),
        pytest.param([disk("a")], [disk("a")], ["a"], [], id="an attached disk may stay"),
    ],
)
def test_update(
    old: list[dict[str, Any]], new: list[dict[str, Any]], attached: list[str], expected: list[tuple[str, str]]
) -> None:
    status = {"volumes": [{"name": name, "state": "Attached"} for name in attached]}
    before = completed(Machine, {**CLASS, "volumes": old}, status=status)
    after = completed(Machine, {**CLASS, "volumes": new}, status=status)
    assert causes(Machine, after, before) == expected


def test_prefix_templates_of_interfaces_are_defaulted() -> None:
    ephemeral = {"ephemeral": {"prefixTemplate": {"spec": {"parentRef": {"name": "p"}}}}}
    machine = completed(Machine, with_nic(ipFamilies=["IPv6"], ips=[ephemeral]))
    template = machine["spec"]["networkInterfaces"][0]["ephemeral"]["networkInterfaceTemplate"]["spec"]
    prefix = template["ips"][0]["ephemeral"]["prefixTemplate"]["spec"]
    assert (prefix["ipFamily"], prefix["prefixLength"]) == ("IPv6", 128)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(["", "odb", ""], ["oda", "odb", "odc"], id="gaps are filled first"),
        pytest.param(["sda", ""], ["sda", "oda"], id="other buses are counted apart"),
        pytest.param(["oda", "odaa", ""], ["oda", "odaa", "odb"], id="two letters come after one"),
        pytest.param([*[f"od{suffix(index)}" for index in range(26)], ""], None, id="the 27th is odaa"),
    ],
)
def test_devices(given: list[str], expected: list[str] | None) -> None:
    machine = {"spec": {"volumes": [{"name": str(at), "device": device} for at, device in enumerate(given)]}}
    assign_devices(machine)
    got = [volume["device"] for volume in machine["spec"]["volumes"]]
    assert got == (expected if expected is not None else [*given[:-1], "odaa"])


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param({"a": "", "b": ""}, {"a": "oda", "b": "odb"}, id="nothing changes"),
        pytest.param({"b": ""}, {"b": "odb"}, id="a disk before it is gone"),
        pytest.param({"c": "", "b": ""}, {"c": "oda", "b": "odb"}, id="a disk takes the place of another"),
        pytest.param({"a": "odb", "b": ""}, {"a": "odb", "b": "oda"}, id="its name was given to another"),
        pytest.param({"b": "", "a": ""}, {"b": "odb", "a": "oda"}, id="another order"),
    ],
)
def test_devices_stay_with_their_disks(new: dict[str, str], expected: dict[str, str]) -> None:
    def machine(devices: dict[str, str]) -> dict[str, dict[str, list[dict[str, str]]]]:
        return {"spec": {"volumes": [{"name": name, "device": device} for name, device in devices.items()]}}

    written = machine(new)
    assign_devices(written, machine({"a": "oda", "b": "odb"}))
    assert {volume["name"]: volume["device"] for volume in written["spec"]["volumes"]} == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(["oda", "oda", ""], "spec.volumes[1].device: oda is the device of another volume", id="clash"),
        pytest.param(["x", ""], "spec.volumes[0].device: 'x' is not two letters", id="malformed"),
        pytest.param([""] * 702, "all 701 device names", id="none left"),
    ],
)
def test_device_refusals(given: list[str], message: str) -> None:
    machine = {"spec": {"volumes": [{"name": str(at), "device": device} for at, device in enumerate(given)]}}
    with pytest.raises(BadRequest) as refusal:
        assign_devices(machine)
    assert message in refusal.value.message


def test_suffixes_count_on() -> None:
    names = [suffix(index) for index in range(702)]
    assert (names[0], names[25], names[26], names[51], names[52], names[700]) == ("a", "z", "aa", "az", "ba", "zy")
    assert len(set(names)) == 702
